"""An upload that the server's sudden end broke off is resumed with its key, and every row is done once."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from servers import wait_until
from skerry_process import skerry_in

ROWS = 6_000
HEADERS = {"content-type": "application/x-ndjson", "idempotency-key": "once"}


def row(number: int) -> bytes:
    return (
        json.dumps(
            {"topic": f"a/T{number}/things/twin/commands/create", "path": "/", "value": {"attributes": {"n": number}}}
        ).encode()
        + b"\n"
    )


@pytest.mark.timeout(180)
def test_every_row_is_done_once_though_the_server_is_killed_in_between(tmp_path: Path):
    with skerry_in(tmp_path) as server:
        for least in (300, 1_500):
            answered = threading.Event()

            def some(least: int = least, answered: threading.Event = answered) -> Iterator[bytes]:
                yield b"".join(map(row, range(least)))
                answered.wait(60)
                yield b"".join(map(row, range(least, ROWS)))

            def upload(source=some) -> None:
                with server.client() as client:
                    try:
                        client.post("/api/2/bulk", content=source(), headers=HEADERS)
                    except httpx.TransportError:
                        return

            sending = threading.Thread(target=upload)
            sending.start()
            with server.client() as client:
                wait_until(
                    lambda client=client, least=least: client.get("/api/2/search/things/count").json() >= least,
                    what="rows",
                )
            answered.set()
            server.process.kill()
            sending.join()
            server.process.start()
        with server.client() as client:
            answer = client.post("/api/2/bulk", content=b"".join(map(row, range(ROWS))), headers=HEADERS)
            statuses = [json.loads(line)["status"] for line in answer.text.splitlines()]
            assert len(statuses) == ROWS
            assert set(statuses) <= {201, 204}
            once = client.get("/api/2/search/things/count", params={"filter": "eq(_revision,1)"})
            assert once.json() == ROWS
