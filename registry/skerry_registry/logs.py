"""Log lines: a fixed short event and its facts, for people or for machines."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Literal

LONGEST = 1_000
"""Characters of a fact."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What would begin a line of its own, or command a terminal: it may come from anybody who tries to log in."""
_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, object]:
    """What the caller gave as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


def brief(value: object) -> str:
    """A fact as text, cut where strangers made it long."""
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class TextLines(logging.Formatter):
    """`12:00:00 WARNING commit failed events=3 reason=…`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback where there is one."""
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {record.getMessage()}"
        line += "".join(f" {name}={brief(value)}" for name, value in facts(record).items())
        line = CONTROL.sub(lambda found: ascii(found[0])[1:-1], line)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"time": record.created, "level": record.levelname, "logger": record.name, "event": record.getMessage()}
        line |= {name: brief(value) if isinstance(value, str) else value for name, value in facts(record).items()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Send everything of that level and above to standard error; libraries only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("skerry", "skerry_registry", "skerry_adapters", "skerry_policies", "skerry_types"):
        logging.getLogger(name).setLevel(level)
