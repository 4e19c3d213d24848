"""What every test is held to: no task, thread or child process is left behind; a missing server is told loudly."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator

import psutil
import pytest

from servers import MISSING

GRACE = 5.0


def children() -> dict[int, str]:
    """The living child processes of the test run, by id."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline()) or child.name()
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in command:
                found[child.pid] = command
        except psutil.NoSuchProcess:
            continue
    return found


def threads() -> dict[int, str]:
    """The living Python threads, by identity."""
    return {thread.ident or 0: thread.name for thread in threading.enumerate()}


def left(now: Callable[[], dict[int, str]], before: Collection[int]) -> list[str]:
    """What is there now and was not before, once it had a moment to end."""
    deadline = time.monotonic() + GRACE
    while (new := [name for key, name in now().items() if key not in before]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return new


@pytest.fixture(autouse=True)
def no_thread_or_child_left() -> Iterator[None]:
    """Fail the test that leaves a thread or a process running."""
    threads_before, children_before = threads().keys(), children().keys()
    yield
    if new := left(threads, threads_before):
        pytest.fail(f"threads left behind: {', '.join(new)}")
    if new := left(children, children_before):
        pytest.fail(f"processes left behind: {'; '.join(new)}")


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail the test that leaves an asyncio task running on its loop."""
    before = asyncio.all_tasks()
    yield
    mine = asyncio.current_task()
    new = {task for task in asyncio.all_tasks() - before if task is not mine}
    if new:
        _, new = await asyncio.wait(new, timeout=1)
    if new:
        pytest.fail("tasks left behind: " + ", ".join(f"{task.get_name()} {task.get_coro()}" for task in new))


@pytest.fixture(autouse=True)
def leaves_nothing(no_thread_or_child_left: None, request: pytest.FixtureRequest) -> None:
    """Look for tasks where the test is asynchronous (a loop for the others would be waste)."""
    function = getattr(request, "function", None)
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    if inspect.iscoroutinefunction(inner):
        request.getfixturevalue("no_task_left")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not tested for want of a server, by name, just above the closing line."""
    missed: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if MISSING in reason:
            missed.setdefault(reason.partition(": ")[2].removeprefix(f"{MISSING}: "), []).append(report.nodeid)
    if missed:
        terminalreporter.section("NOT TESTED: servers missing", sep="!", red=True, bold=True)
        for reason, tests in missed.items():
            terminalreporter.line(f"{len(tests)} skipped for {reason}", red=True)
            for test in tests:
                terminalreporter.line(f"  {test}")
