"""The `skerry` command: `commands` says what there is, the other modules do it and are imported when they are needed."""
