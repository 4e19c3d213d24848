"""What stands in front of routes and pages, whatever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from wire.http_server import served

PAGE = Path(__file__).parents[2] / "registry" / "skerry_registry" / "page"


@pytest.mark.parametrize("path", ["/", "/apidoc/2"])
async def test_a_page_may_load_and_ask_nothing_but_this_server(tmp_path: Path, path: str) -> None:
    async with served(tmp_path, page_folder=PAGE) as server, server.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    policy = {
        name: sources
        for name, *sources in (part.split() for part in answer.headers["content-security-policy"].split(";"))
    }
    assert policy["default-src"] == ["'none'"]
    assert policy["connect-src"] == policy["script-src"] == ["'self'"]
    for name, sources in policy.items():
        assert set(sources) <= {"'none'", "'self'", "data:"}, name
        assert "data:" not in sources or name == "img-src"


@pytest.mark.parametrize("path", ["/devops", "/devops/nothing", "/metrics", "/metrics/nothing"])
async def test_what_is_below_the_operations_is_closed_even_where_nothing_is(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as server:
        for name in ("ditto", None):
            async with server.client(name) as client:
                assert (await client.get(path)).status_code == 401
        async with server.client("devops") as client:
            assert (await client.get(path)).status_code == (200 if path == "/metrics" else 404)
