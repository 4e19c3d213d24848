"""The journal: group commit, followers with cursors, retention."""
