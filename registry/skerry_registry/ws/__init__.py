"""WebSockets: the wire, the session on it, and what it may ask for."""
