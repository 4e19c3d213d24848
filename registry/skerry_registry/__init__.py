"""The service: journal, stores, HTTP edge, wiring, the skerry command."""
