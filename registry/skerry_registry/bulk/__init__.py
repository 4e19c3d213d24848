"""Many changes at a time: rows of commands, what is remembered of an upload, backups."""
