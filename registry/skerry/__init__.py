"""The model of things: pure, synchronous, without I/O."""
