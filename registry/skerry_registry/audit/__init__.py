"""The audit trail: who changed or was refused what, when, from where, under which policy revision."""

from skerry_registry.audit.record import Record
from skerry_registry.audit.trail import Trail

__all__ = ["Record", "Trail"]
