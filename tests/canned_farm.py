"""A stand-in for the server that the page talks to: farms of any size, whose answers a test can change or break."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import skerry_registry

PAGE = Path(skerry_registry.__file__).with_name("page")
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
STATUSES = {7: "fault", 11: "maintenance", 12: "stopped", 17: "idle"}


def stamp(seconds: float) -> str:
    """A time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def turbine(number: int, columns: int, farm: str = "Skerryvore") -> dict[str, Any]:
    """Turbine `number` of a staggered layout, as the simulator makes them."""
    row, column = divmod(number, columns)
    place = {"x": column * 700 + row % 2 * 350 + 60 * math.sin(number), "y": row * 560 + 60 * math.cos(number * 2)}
    about = {
        "kind": "turbine",
        "name": f"T{number + 1:02d}",
        "farm": farm,
        "position": place,
        "model": "IEA 3.4 MW 130 m",
        "ratedPower": 3370,
    }
    return {"thingId": f"{farm.lower()}:T{number + 1:02d}", "attributes": about}


def mast(farm: str = "Skerryvore") -> dict[str, Any]:
    """The farm's met mast."""
    return {
        "thingId": f"{farm.lower()}:M1",
        "attributes": {"kind": "metmast", "name": "M1", "farm": farm, "position": {"x": -600, "y": 900}},
    }


def farm(count: int, name: str = "Skerryvore") -> list[dict[str, Any]]:
    """A met mast and `count` turbines."""
    columns = max(2, round(math.sqrt(count * 1.1)))
    return [mast(name), *(turbine(number, columns, name) for number in range(count))]


class Canned:
    """What the server would say, and what it was asked."""

    def __init__(self, things: list[dict[str, Any]]) -> None:
        self.things = things
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.broken = 0
        self.port = 0
        self.closing = threading.Event()
        self.numbers = itertools.count(1)
        self.places: list[str] = []
        """With which last event ids streams were asked for."""

    def values(self, thing: dict[str, Any], now: float) -> dict[str, Any]:
        """What the devices say at a time."""
        number = sum(map(ord, thing["thingId"]))
        wind = 9 + 2.4 * math.sin(now / 40 + number) + 1.2 * math.sin(now / 7 + 3 * number)
        if thing["attributes"].get("kind") == "metmast":
            return {"wind": round(wind, 2), "windDirection": 248.0}
        status = STATUSES.get(int("".join(filter(str.isdigit, thing["attributes"]["name"]))) % 29, "operating")
        power = min(3370.0, 3370 * (wind / 11.4) ** 3) if status == "operating" else 0.0
        return {
            "power": round(power, 1),
            "wind": round(wind, 2),
            "windDirection": 240.0 + 15 * math.sin(now / 60 + number),
            "rotorSpeed": 6 + power / 500,
            "status": status,
        }

    def page(self, query: dict[str, list[str]]) -> tuple[list[dict[str, Any]], int | None]:
        """One page of things and where the next begins."""
        option = query.get("option", [""])[0]
        start = int(option.partition("cursor(")[2].partition(")")[0] or 0)
        now = time.time()
        answer = []
        for thing in self.things[start : start + 200]:
            away = 400 if thing["thingId"] in self.silent else 0
            shown = {
                "thingId": thing["thingId"],
                "_revision": round((now - away) * 1000),
                "_modified": stamp(now - away - 0.4),
            }
            if "scada" not in thing:
                shown["features"] = {"scada": {"properties": self.values(thing, now)}}
            if "attributes/" in query.get("fields", [""])[0]:
                shown["attributes"] = thing["attributes"]
            answer.append(shown)
        return answer, start + 200 if start + 200 < len(self.things) else None

    def changes(self) -> Iterator[bytes]:
        """What happens, as server-sent events, until the server closes or breaks."""
        known = {thing["thingId"]: thing for thing in self.things}
        yield b"id:%d\n\n" % next(self.numbers)
        while not self.closing.wait(0.5) and not self.broken:
            now = time.time()
            things = {thing["thingId"]: thing for thing in self.things}
            told = [self.change(id_, "deleted", "/", None, now) for id_ in known.keys() - things.keys()]
            for id_, thing in things.items():
                if id_ not in known:
                    told.append(self.change(id_, "created", "/", {"attributes": thing["attributes"]}, now))
                if id_ not in self.silent and "scada" not in thing:
                    values = self.values(thing, now)
                    told.append(self.change(id_, "merged", "/features/scada/properties", values, now + 0.001))
            known = things
            yield b"".join(told) or b"data:\n\n"

    def change(self, id_: str, action: str, path: str, value: Any, now: float) -> bytes:
        """One event."""
        topic = f"{id_.replace(':', '/')}/things/twin/events/{action}"
        shown = {
            "thingId": id_,
            "_revision": round(now * 1000),
            "_modified": stamp(now - 0.4),
            "_context": {"topic": topic, "path": path, "value": value},
        }
        return f"data:{json.dumps(shown)}\nid:{next(self.numbers)}\n\n".encode()

    def history(self, thing_id: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """The power of one turbine over the asked span."""
        steps = {"10s": 10, "1m": 60, "20m": 1200}[query["step"][0]]
        span = {"now-10m": 600, "now-1h": 3600, "now-24h": 86400}[query["from"][0]]
        now = time.time()
        thing = next(thing for thing in self.things if thing["thingId"] == thing_id)
        data = [
            {"t": stamp(now - back), "v": self.values(thing, now - back)["power"]} for back in range(span, 0, -steps)
        ]
        return [{"thingId": thing_id, "path": "/features/scada/properties/power", "data": data}]


@contextmanager
def canned(things: list[dict[str, Any]]) -> Iterator[Canned]:
    """Serve the page and the canned answers on a free loopback port; `answers.broken` is a status to fail with."""
    answers = Canned(things)

    class Handler(BaseHTTPRequestHandler):
        timeout = 2  # connections that a browser opens in advance

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            answers.asked.append(self.path)
            link = None
            status = 200
            kind = "application/json"
            if not url.path.startswith("/api/"):
                name = url.path.strip("/") or "index.html"
                known = (PAGE / name).is_file()
                status, kind = (200, KINDS[Path(name).suffix]) if known else (404, "text/plain")
                body = (PAGE / name).read_bytes() if known else b""
            elif answers.broken:
                status = answers.broken
                body = json.dumps(
                    {"status": status, "error": "store.unavailable", "message": "The store is away."}
                ).encode()
            elif url.path == "/api/2/things" and self.headers["accept"] == "text/event-stream":
                self.stream()
                return
            elif url.path == "/api/2/things":
                shown, following = answers.page(parse_qs(url.query))
                body = json.dumps(shown).encode()
                if following is not None:
                    fields = quote(parse_qs(url.query)["fields"][0])
                    link = f'</api/2/things?fields={fields}&option=size(200),cursor({following})>; rel="next"'
            else:
                body = json.dumps(answers.history(unquote(url.path.split("/")[5]), parse_qs(url.query))).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if link:
                self.send_header("Link", link)
            self.end_headers()
            self.wfile.write(body)

        def stream(self) -> None:
            answers.places.append(self.headers.get("last-event-id", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for told in answers.changes():
                    self.wfile.write(told)
            except OSError:
                pass  # the page has gone

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a browser that goes away closes its connections

    server = Server(("127.0.0.1", 0), Handler)
    answers.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield answers
    finally:
        answers.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
