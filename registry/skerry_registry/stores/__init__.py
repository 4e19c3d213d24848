"""Where the journal and the snapshots are kept."""
