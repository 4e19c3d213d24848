"""The journal of events: appending, following, retention."""

from skerry_registry.journal.journal import EventsForgotten, Journal

__all__ = ["EventsForgotten", "Journal"]
