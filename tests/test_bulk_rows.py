"""Uploads cut into rows, and what is remembered of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.signals import Command
from skerry_registry.bulk.progress import HOUR, UPLOADS_KEPT, KeyBusy, Progress
from skerry_registry.bulk.rows import Lines, RowTooLarge, read

LIMIT = 20


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b" "))), st.data())
def test_lines_are_the_same_however_the_bytes_are_cut(lines: list[bytes], data: st.DataObject):
    text = b"\n".join(lines)
    cutter = Lines(LIMIT)
    found: list[tuple[int, bytes | RowTooLarge]] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += cutter.feed(text[:size])
        text = text[size:]
    found += cutter.finish()
    wanted = [None if len(line) > LIMIT else line.strip() for line in lines if len(line) > LIMIT or line.strip()]
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert [line if isinstance(line, bytes) else None for _, line in found] == wanted


def test_a_row_is_a_command_or_what_is_wrong_with_it():
    good = read(1, b'{"topic":"a/b/things/twin/commands/retrieve","path":"/"}', ("me",))
    assert isinstance(good.command, Command)
    assert (good.command.id, good.command.subjects) == ("a:b", ("me",))
    for line in (b"{", b"[]", b'{"topic":"a/b/things/live/commands/retrieve","path":"/"}', RowTooLarge(row=1, limit=5)):
        assert isinstance(read(1, line, ("me",)).command, SkerryError)


def test_what_is_done_under_a_key_is_known_until_it_is_old(tmp_path: Path):
    now = [0]
    progress = Progress(tmp_path / "bulk.db", lambda: now[0], hours=2)
    try:
        upload = progress.begin("me", "key")
        upload.note([(1, upload.digest(1, b"x"), 201), (2, upload.digest(2, b"y"), 204)])
        with pytest.raises(KeyBusy):
            progress.begin("me", "key")
        other = progress.begin("you", "key")
        assert other.done(1, 10) == {}
        assert other.digest(1, b"x") != upload.digest(1, b"x") != upload.digest(2, b"x")
        upload.close()
        other.close()
    finally:
        progress.close()
    progress = Progress(tmp_path / "bulk.db", lambda: now[0], hours=2)
    try:
        again = progress.begin("me", "key")
        assert again.done(1, 10) == {1: (again.digest(1, b"x"), 201), 2: (again.digest(2, b"y"), 204)}
        assert list(again.done(2, 2)) == [2]
        again.close()
        now[0] = 3 * HOUR
        assert progress.begin("me", "key").done(1, 10) == {}
    finally:
        progress.close()


def test_one_subject_keeps_some_uploads_and_forgets_its_own_first(tmp_path: Path):
    now = [0]
    progress = Progress(tmp_path / "bulk.db", lambda: now[0])
    try:
        other = progress.begin("you", "key")
        other.note([(1, other.digest(1, b"x"), 201)])
        other.close()
        for number in range(UPLOADS_KEPT + 2):
            now[0] += 1
            upload = progress.begin("me", str(number))
            upload.note([(1, upload.digest(1, b"x"), 201)])
            upload.close()
        assert progress.begin("you", "key").done(1, 1)
        assert progress.begin("me", str(UPLOADS_KEPT)).done(1, 1)
        assert not progress.begin("me", "0").done(1, 1)
    finally:
        progress.close()
