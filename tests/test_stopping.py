"""Ctrl-C and SIGTERM in the commands that run until they are stopped."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED = """
import signal
from skerry_registry.cli.farm import stopping

with stopping() as stop:
    with stop._cond:  # as inside of stop.wait(), which is where the signal mostly comes
        signal.raise_signal(signal.{name})
        signal.raise_signal(signal.SIGTERM)
    print("set" if stop.wait(10) else "not set")
"""
TWICE = """
import signal
from skerry_registry.cli.farm import stopping

with stopping() as stop:
    signal.raise_signal(signal.SIGINT)
    stop.wait(10)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("ended")
"""


def said(script: str) -> str:
    """What the script prints; a deadlock is an error."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_whoever_waits_for_it_at_that_very_moment(number: signal.Signals):
    assert said(INTERRUPTED.format(name=number.name)) == "set"


def test_a_second_ctrl_c_ends_at_once():
    assert said(TWICE) == "ended"
