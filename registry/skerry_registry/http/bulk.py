# ruff: noqa: N818 - errors are rows of a table
"""`POST /api/2/bulk`: rows of Ditto Protocol commands in, rows of their responses out, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from litestar.types import Send
from msgspec import structs

from skerry.errors import SkerryError
from skerry.headers import boolean
from skerry.protocol import error_envelope, response_envelope
from skerry.signals import Command, Response
from skerry.values import decode
from skerry_registry.bulk.progress import KeyReused, Progress, Upload
from skerry_registry.bulk.rows import Lines, Row, read
from skerry_registry.http.answer import VERSION, encode, of_error
from skerry_registry.http.door import Door
from skerry_registry.http.edge import answer_in
from skerry_registry.http.errors import (
    BodyLate,
    BodyTooLarge,
    MediaTypeUnsupported,
    MethodNotAllowed,
    RouteNotFound,
)
from skerry_registry.http.exchange import EXPLAINED, FORBIDDEN, Reasons
from skerry_registry.http.outbox import Outbox
from skerry_registry.http.request import BODY_PATIENCE, ClientGone, Request
from skerry_registry.http.selection import Selection, check_parameters
from skerry_registry.identities.namespaces import Reach
from skerry_registry.identities.refusals import NamespaceNotAccessible
from skerry_registry.runs import NotDone

PREFIX = b"/api/2/bulk"
NDJSON = (b"content-type", b"application/x-ndjson")
TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
BATCH = 100
"""Rows that are decided together: others have their turn in between."""
ENVELOPE = 16_384
"""Bytes that an envelope may have beside its value."""
KEY_LONGEST = 255
REPLAYED = "idempotent-replay"


class IdempotencyKeyInvalid(SkerryError):
    """A key that cannot be remembered."""

    code = "bulk:key.invalid"
    status = 400
    message = "The Idempotency-Key has {length} characters."
    description = "It has 1 to 255; a UUID will do. Take a new one for each upload, and the same to repeat it."


class TooManyRows(SkerryError):
    """More rows than one request may have."""

    code = "bulk:rows.toomany"
    status = 413
    message = "The request has more than {limit} rows{which}."
    description = "{done} Send fewer rows at a time, or raise the setting {setting}."


class Bounds(NamedTuple):
    """What one upload may have: rows, bytes, rows of an atomic one, bytes of a row's value."""

    rows: int
    size: int
    atomic_rows: int
    value: int


class Bulk:
    """Carries uploads out."""

    def __init__(self, door: Door, progress: Progress, bounds: Bounds, selection: Selection, reasons: Reasons) -> None:
        """`progress` remembers the uploads with an Idempotency-Key; `selection` changes what a filter names.

        `reasons` knows why a policy refuses.
        """
        self._selection = selection
        self._reasons = reasons
        self._door = door
        self._progress = progress
        self._bounds = bounds

    async def serve(self, request: Request, send: Send) -> None:
        """Answer one request; what is wrong with it as a whole is told before the first row."""
        tail = request.path[len(PREFIX) :].removesuffix(b"/")
        if tail == b"/things":
            await self._selection.serve(request, send)
            return
        request.route = "bulk"
        outbox = Outbox(send)
        upload: Upload | None = None
        try:
            if tail:
                raise RouteNotFound(path=request.path.decode("latin-1"))
            if request.method != "POST":
                path = request.path.decode("latin-1")
                raise MethodNotAllowed(method=request.method, path=path, allow="POST", headers={"allow": "POST"})
            check_parameters(request, "atomic")
            atomic = _switch(request, "atomic")
            rehearsal = _switch(request, "dry-run")
            _check_type(request)
            upload = None if rehearsal else await self._upload(request)
            work = _Work(self._door, request, upload, self._reasons, rehearsal=rehearsal)
            if atomic:
                await self._together(request, work, outbox)
            else:
                await self._each(request, work, outbox)
            await outbox.finish()
        except SkerryError as error:
            if not outbox.started:
                await answer_in(of_error(error), request, send)
                return
            await outbox.put(_line(error_envelope(error, None, request.ditto)))
            await outbox.finish()
        except ClientGone:
            pass
        finally:
            if upload is not None:
                upload.close()
            await outbox.close()

    async def _upload(self, request: Request) -> Upload | None:
        key = request.edge.get("idempotency-key")
        if key is None:
            return None
        if not 1 <= len(key) <= KEY_LONGEST:
            raise IdempotencyKeyInvalid(length=len(key))
        assert request.caller is not None
        return await asyncio.to_thread(self._progress.begin, request.caller.subjects[0], key)

    async def _each(self, request: Request, work: _Work, outbox: Outbox) -> None:
        """Every row for itself; the answers go out while the next rows come in."""
        await outbox.start(200, [NDJSON, VERSION])
        async for rows in self._batches(request, self._bounds.rows):
            inside = [row for row in rows if row.number <= self._bounds.rows]
            await outbox.put(b"".join(await work.each(inside)))
            if len(inside) < len(rows):
                raise TooManyRows(
                    limit=self._bounds.rows,
                    which="",
                    done="Those before are answered above.",
                    setting="bulk_max_rows",
                )

    async def _together(self, request: Request, work: _Work, outbox: Outbox) -> None:
        """All rows or none."""
        limit = self._bounds.atomic_rows
        rows: list[Row] = []
        taken = 0
        try:
            async for some in self._batches(request, limit):
                size = sum(len(row.text) for row in some)
                request.room.take(size)
                taken += size
                rows += some
                if len(rows) > limit:
                    raise TooManyRows(
                        limit=limit,
                        which=", too many to be atomic",
                        done="Nothing was done.",
                        setting="bulk_atomic_rows",
                    )
            done, lines = await work.together(rows)
        finally:
            request.room.give(taken)
        await outbox.start(200 if done else NotDone.status, [NDJSON, VERSION])
        await outbox.put(b"".join(lines))

    async def _batches(self, request: Request, limit: int) -> AsyncIterator[list[Row]]:
        """The rows as they come in, some at a time. Raises BodyTooLarge, BodyLate, ClientGone."""
        assert request.caller is not None
        subjects = request.caller.subjects
        lines = Lines(self._bounds.value + ENVELOPE)
        reach = request.reach
        size = 0
        more = True
        while more:
            message = await _receive(request)
            chunk: bytes = message.get("body", b"")
            more = bool(message.get("more_body"))
            size += len(chunk)
            if size > self._bounds.size:
                raise BodyTooLarge(
                    limit=self._bounds.size,
                    description="Rows that are answered were done. Send fewer, or raise the setting bulk_max_bytes.",
                )
            found = [*lines.feed(chunk)] if more else [*lines.feed(chunk), *lines.finish()]
            for start in range(0, len(found), BATCH):
                rows = [read(number, line, subjects, request.where) for number, line in found[start : start + BATCH]]
                yield rows if reach is None else [_reached(row, reach) for row in rows]
                if found[start][0] > limit:
                    return
        request.body_done = True


class _Work:
    """What becomes of rows: known ones are answered from memory, the others carried out, all written down."""

    def __init__(
        self, door: Door, request: Request, upload: Upload | None, reasons: Reasons, *, rehearsal: bool
    ) -> None:
        self._door = door
        self._reasons = reasons
        self._reach = request.reach
        self._explained = 0
        self._upload = upload
        self._carry_out = door.rehearse if rehearsal else door.handle_all
        self._carry_out_together = door.rehearse if rehearsal else door.handle_together
        self._correlation = request.ditto["correlation-id"]

    async def each(self, rows: Sequence[Row]) -> list[bytes]:
        """One answer a row."""
        answers, todo = await self._known(rows)
        await self._do(todo, answers, together=False)
        return [self._answer(row, answers[row.number]) for row in rows]

    async def together(self, rows: Sequence[Row]) -> tuple[bool, list[bytes]]:
        """Whether all was done, and one answer a row."""
        answers, todo = await self._known(rows)
        sound = not any(isinstance(answer, SkerryError) for answer in answers.values())
        if sound:
            await self._do(todo, answers, together=True)
            done = not any(isinstance(answers[row.number], SkerryError) for row in rows)
        else:
            done = False
            tried = await self._door.rehearse([row.command for row in todo if not isinstance(row.command, SkerryError)])
            for row, answer in zip(todo, tried, strict=True):
                answers[row.number] = answer if isinstance(answer, SkerryError) else NotDone()
        return done, [self._answer(row, answers[row.number]) for row in rows]

    async def _known(self, rows: Sequence[Row]) -> tuple[dict[int, Response | SkerryError], list[Row]]:
        """Answers to rows that are done already or make no sense, and the rows that are left."""
        answers: dict[int, Response | SkerryError] = {}
        todo: list[Row] = []
        upload = self._upload
        done: dict[int, tuple[int, int]] = {}
        if upload is not None and rows:
            done = await asyncio.to_thread(upload.done, rows[0].number, rows[-1].number)
        for row in rows:
            if isinstance(row.command, SkerryError):
                answers[row.number] = row.command
            elif upload is None or row.number not in done:
                todo.append(row)
            elif done[row.number][0] == upload.digest(row.number, row.text):
                answers[row.number] = Response(status=done[row.number][1], headers={REPLAYED: "true"})
            else:
                answers[row.number] = KeyReused(row=row.number, key=upload.key)
        return answers, todo

    async def _do(self, rows: Sequence[Row], answers: dict[int, Response | SkerryError], *, together: bool) -> None:
        """Carry the rows out, and remember those that are done."""
        upload = self._upload
        digests = [0 if upload is None else upload.digest(row.number, row.text) for row in rows]
        commands = []
        for row, digest in zip(rows, digests, strict=True):
            command = row.command
            assert not isinstance(command, SkerryError)
            if upload is not None:
                command = _as_delivery(command, digest)
            commands.append(command)
        found = await (self._carry_out_together if together else self._carry_out)(commands)
        notes: list[tuple[int, int, int]] = []
        for row, command, digest, answer in zip(rows, commands, digests, found, strict=True):
            answers[row.number] = answer
            if isinstance(answer, SkerryError) and answer.status == FORBIDDEN and self._explained < EXPLAINED:
                self._explained += 1
                await self._reasons.attach(command, answer, self._reach)
                await asyncio.sleep(0)  # a reason may take long to find: others have their turn
            if isinstance(answer, Response) and command.verb != "retrieve":
                notes.append((row.number, digest, answer.status))
        if upload is not None and notes:
            await asyncio.to_thread(upload.note, notes)

    def _answer(self, row: Row, answer: Response | SkerryError) -> bytes:
        """The line that answers a row."""
        command = row.command
        if isinstance(command, SkerryError):
            return _line(error_envelope(command, _topic_of(row.text), {"correlation-id": self._correlation}))
        headers = command.headers
        if "correlation-id" not in headers:
            headers["correlation-id"] = self._correlation
        if isinstance(answer, SkerryError):
            return _line(error_envelope(answer, command.topic, headers))
        return _line(response_envelope(command, answer))


def _as_delivery(command: Command, digest: int) -> Command:
    """The command as one that may have been taken in before."""
    return structs.replace(command, digest=digest, redelivered=True)


def _reached(row: Row, reach: Reach) -> Row:
    """The row, or its refusal where the operator's rules keep its namespace from the caller."""
    command = row.command
    if not isinstance(command, SkerryError):
        try:
            reach.check_command(command)
        except NamespaceNotAccessible as error:
            return Row(row.number, row.text, error)
    return row


def _topic_of(text: bytes) -> str | None:
    """The topic of a row that is no command, if it can be read."""
    try:
        members = decode(text)
    except SkerryError:
        return None
    topic = members.get("topic") if isinstance(members, dict) else None
    return topic if isinstance(topic, str) else None


def _line(envelope: dict[str, Any]) -> bytes:
    return encode(envelope) + b"\n"


def _switch(request: Request, name: str) -> bool:
    """A parameter that is true or false. Raises HeaderInvalid."""
    return boolean(request.query if name in request.query else request.ditto, name, default=False)


def _check_type(request: Request) -> None:
    given = request.edge.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in TYPES:
        raise MediaTypeUnsupported(given=given, method=request.method, accepted=TYPES[0])


async def _receive(request: Request) -> Any:
    """The next piece of the body. Raises BodyLate, ClientGone."""
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            message: Any = await request.receive()
    except TimeoutError as error:
        raise BodyLate(
            seconds=int(BODY_PATIENCE), description="Rows that are answered were done; repeat the others."
        ) from error
    if message["type"] != "http.request":
        raise ClientGone
    return message
