"""Text of strangers on its way to logs and terminals."""

from __future__ import annotations

import logging

from rich.console import Console

from skerry_adapters.dead_letters import DeadLetter
from skerry_registry.cli.dead_letters import _cells
from skerry_registry.cli.tables import plain
from skerry_registry.cli.watch import Row, _screen
from skerry_registry.logs import JsonLines, TextLines

EVIL = "a\x1b[2J\n12:00:00 INFO all is well\x9b31m\u202e"


def record(**facts: str) -> logging.LogRecord:
    made = logging.LogRecord("skerry", logging.INFO, "", 0, "mqtt login refused", None, None)
    vars(made).update(facts)
    return made


def test_a_log_line_stays_one_line_whatever_strangers_call_themselves() -> None:
    for form in (TextLines(), JsonLines()):
        line = form.format(record(user=EVIL))
        assert line.isascii()
        assert line.isprintable()


def test_a_log_line_does_not_grow_with_what_strangers_send() -> None:
    for form in (TextLines(), JsonLines()):
        assert len(form.format(record(topic="y" * 60_000))) < 3_000


def test_text_for_a_terminal_cannot_command_it() -> None:
    assert plain(EVIL).isprintable()
    assert plain("Größe [red] 5 µm") == "Größe [red] 5 µm"


def test_things_with_the_oddest_names_are_drawn_as_they_are() -> None:
    row = Row(id="demo:[bold]x[/]", status=EVIL, power=1.0, rated=2.0, wind=None, direction=None, age=1.0)
    console = Console(width=120, force_terminal=True, color_system=None)
    with console.capture() as shown:
        console.print(_screen("http://x", [row], "", 120, 20))
    assert "[bold]x[/]" in shown.get()
    assert "\x1b[2J" not in shown.get()


def test_dead_letters_are_told_in_printable_text() -> None:
    letter = DeadLetter(
        topic=f"telemetry/{EVIL}", payload=b"", code="x", reason={"message": EVIL}, time=0, source="", qos=0, size=0
    )
    assert all(cell.isprintable() for cell in _cells(letter))
