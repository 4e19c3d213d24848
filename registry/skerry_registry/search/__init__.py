"""Search over all things: an index in memory that follows every commit, and answers only what the caller may read."""
