"""The journal of events: appending, following, retention."""

from skerry_registry.journal.journal import EventsForgotten, EventsUnknown, Journal
from skerry_registry.journal.retention import Retention

__all__ = ["EventsForgotten", "EventsUnknown", "Journal", "Retention"]
