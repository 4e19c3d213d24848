"""An issuer of OpenID Connect for tests: a process of its own that publishes keys and signs real tokens.

As a program, `python issuer.py PORT`, it serves below /ditto: `.well-known/openid-configuration`, `jwks`, `token` (POST
{"kid", "header", "claims"}: the signed token), `rotate` (POST: new keys for old), `behave` (POST: how it answers `jwks`
from now on), `asked` (how often `jwks` was asked).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from servers import Process, free_port

REGISTRY = JWSRegistry(strict_check_header=False, algorithms=["RS256", "PS256", "ES256", "Ed25519", "HS256"])


class Issuer(Process):
    """The process, and a client of it."""

    @property
    def url(self) -> str:
        """The `iss` of its tokens."""
        return f"http://127.0.0.1:{self.port}/ditto"

    def token(self, claims: dict[str, Any], *, kid: str = "rsa-1", **header: Any) -> str:
        """A token with these claims, signed with the key of that id; `header` adds to or replaces its header."""
        value = {"iss": self.url, "sub": "user2", "aud": ["system-test"], **claims}
        return str(self._post("token", {"kid": kid, "header": header, "claims": value})["token"])

    def rotate(self) -> None:
        """New keys for old: rsa-2 after rsa-1."""
        self._post("rotate", {})

    def behave(self, how: str) -> None:
        """Answer `jwks` from now on with: keys, nonsense, flood, missing, redirect."""
        self._post("behave", {"how": how})

    @property
    def asked(self) -> int:
        """How often its keys were asked for."""
        return int(self.get("asked")["asked"])

    def get(self, path: str) -> dict[str, Any]:
        """A document of it."""
        found: dict[str, Any] = httpx.get(f"{self.url}/{path}").raise_for_status().json()
        return found

    def _post(self, path: str, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = httpx.post(f"{self.url}/{path}", json=value).raise_for_status().json()
        return found


@contextmanager
def issuer(folder: Path, *, started: bool = True) -> Iterator[Issuer]:
    """Run an issuer until the block ends."""
    port = free_port()
    process = Issuer([sys.executable, __file__, str(port)], port=port, log=folder / "issuer.log")
    if started:
        process.start()
    try:
        yield process
    finally:
        process.stop()


class Desk:
    """What the process answers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/ditto"
        self.generation = 1
        self.how = "keys"
        self.asked = 0
        self.keys: dict[str, RSAKey | ECKey | OKPKey | OctKey] = {}
        self.make()

    def make(self) -> None:
        """Keys of the current generation."""
        number = self.generation
        self.keys = {
            f"rsa-{number}": RSAKey.generate_key(2048),
            f"ec-{number}": ECKey.generate_key("P-256"),
            f"okp-{number}": OKPKey.generate_key("Ed25519"),
            f"short-{number}": RSAKey.generate_key(1024),
            f"secret-{number}": OctKey.generate_key(256),
            f"encrypting-{number}": RSAKey.generate_key(2048),
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and document."""
        asked = json.loads(body) if body else {}
        if path == "/ditto/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        if path == "/ditto/jwks":
            self.asked += 1
            return self.published()
        if path == "/ditto/asked":
            return 200, {"asked": self.asked}
        if method != "POST":
            return 404, {}
        if path == "/ditto/rotate":
            self.generation += 1
            self.make()
        elif path == "/ditto/behave":
            self.how = asked["how"]
        elif path == "/ditto/token":
            return 200, {"token": self.sign(asked["kid"], asked["header"], asked["claims"])}
        return 200, {}

    def published(self) -> tuple[int, Any]:
        """The list of keys, or what stands for it."""
        if self.how == "missing":
            return 404, {}
        if self.how == "redirect":
            return 302, {}
        if self.how == "nonsense":
            return 200, ["no", "keys"]
        if self.how == "flood":
            return 200, {"keys": [{"kid": "x" * 2_000_000}]}
        found = []
        for kid, key in self.keys.items():
            use = "enc" if kid.startswith("encrypting") else "sig"
            found.append({**key.as_dict(private=isinstance(key, OctKey)), "kid": kid, "use": use})
        return 200, {"keys": found}

    def sign(self, kid: str, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """A token in the compact form."""
        key = self.keys[kid]
        kinds = {"ec": "ES256", "okp": "Ed25519", "secret": "HS256"}
        full = {"typ": "JWT", "kid": kid, "alg": kinds.get(kid.partition("-")[0], "RS256"), **header}
        return jws.serialize_compact(full, json.dumps(claims), key, registry=REGISTRY)


async def serve(port: int) -> None:
    """Answer until the process ends."""
    desk = Desk(port)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        lengths = [line.split(":")[1] for line in head[1:] if line.lower().startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        status, document = desk.answer(method, path, body)
        text = json.dumps(document).encode()
        more = f"location: {desk.url}/elsewhere\r\n" if status == 302 else ""
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n{more}connection: close\r\n\r\n".encode())
        writer.write(text)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
