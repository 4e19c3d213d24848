"""The HTTP edge: URL and body to command, response to HTTP."""
