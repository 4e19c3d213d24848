"""RQL, the language of conditions, filters and searches."""
