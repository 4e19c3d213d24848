"""Log lines: a fixed short event and its facts, for people or for machines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, object]:
    """What the caller gave as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class TextLines(logging.Formatter):
    """`12:00:00 WARNING commit failed events=3 reason=…`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback where there is one."""
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {record.getMessage()}"
        line += "".join(f" {name}={value}" for name, value in facts(record).items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"time": record.created, "level": record.levelname, "logger": record.name, "event": record.getMessage()}
        line |= facts(record)
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
