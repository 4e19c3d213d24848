"""The server against its own description: no failure of its own, and no answer that is not described."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from skerry_registry.http.answer import of_json
from skerry_registry.http.openapi import document
from skerry_registry.http.routes import ROUTES
from wire.http_server import Served, backup_of, served

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 6
PAGES = ("/", "/page/{file}")
LINES = "application/x-ndjson"
"""Rows of commands: the fuzzer does not know how to write them; they have tests of their own."""
THING = "/api/2/things/demo:T01"
POLICY = "/api/2/policies/demo:P01"
PATCH = "application/merge-patch+json"
ENTRY = {
    "subjects": {"nginx:devops": {"type": "x"}},
    "resources": {
        "policy:/": {"grant": ["READ", "WRITE"], "revoke": []},
        "thing:/": {"grant": ["READ", "WRITE"], "revoke": []},
    },
}
FEATURE = {"definition": ["a:b:1.0.0"], "properties": {"p": 1}, "desiredProperties": {"p": 2}}
JOURNEY: list[tuple[str, str, Any, int]] = [
    ("GET", "/health", None, 200),
    ("GET", "/api/2/whoami", None, 200),
    ("PUT", THING, {"definition": "a:b:1.0.0", "attributes": {"a": {"b": 1}}, "features": {"f": FEATURE}}, 201),
    ("PUT", THING, {"definition": "a:b:1.0.0", "attributes": {"a": {"b": 1}}, "features": {"f": FEATURE}}, 204),
    ("GET", THING, None, 200),
    ("GET", f"{THING}?fields=thingId,_revision,_created,_policy", None, 200),
    ("POST", "/api/2/things", {"attributes": {"a": 1}}, 201),
    ("GET", "/api/2/things", None, 200),
    ("GET", "/api/2/things?ids=demo:T01,demo:T02", None, 200),
    ("GET", f"{THING}/policyId", None, 200),
    ("GET", f"{THING}/definition", None, 200),
    ("GET", f"{THING}/attributes", None, 200),
    ("PUT", f"{THING}/attributes/c/d", {"e": [1, None]}, 201),
    ("GET", f"{THING}/attributes/c/d", None, 200),
    ("GET", f"{THING}/features", None, 200),
    ("PUT", f"{THING}/features/g", FEATURE, 201),
    ("GET", f"{THING}/features/f", None, 200),
    ("GET", f"{THING}/features/f/definition", None, 200),
    ("GET", f"{THING}/features/f/properties/p", None, 200),
    ("GET", f"{THING}/features/f/desiredProperties", None, 200),
    ("PUT", f"{THING}/attributes/a?requested-acks=twin-persisted,search-persisted", 3, 200),
    ("PUT", f"{THING}/attributes/a?requested-acks=twin-persisted,other-label&timeout=1ms", 4, 424),
    ("PUT", f"{THING}/attributes/a?response-required=false", 5, 202),
    ("PATCH", THING, {"attributes": {"z": None, "y": 1}}, 204),
    ("PUT", POLICY, {"entries": {"o": ENTRY}}, 201),
    ("GET", POLICY, None, 200),
    ("GET", f"{POLICY}/entries", None, 200),
    ("GET", f"{POLICY}/entries/o", None, 200),
    ("GET", f"{POLICY}/entries/o/subjects", None, 200),
    ("GET", f"{POLICY}/entries/o/subjects/nginx:devops", None, 200),
    ("GET", f"{POLICY}/entries/o/resources", None, 200),
    ("GET", f"{POLICY}/entries/o/resources/thing:/", None, 200),
    ("PUT", f"{POLICY}/entries/o/subjects/nginx:eve", {"type": "y"}, 201),
    ("DELETE", f"{POLICY}/entries/o/subjects/nginx:eve", None, 204),
    ("DELETE", f"{POLICY}/entries/o", None, 403),
    ("GET", "/devops/logging", None, 200),
    ("GET", "/devops/config/things/1?path=http", None, 200),
    ("GET", "/status/health", None, 200),
    ("GET", "/stats/things/details", None, 200),
    ("GET", "/stats/search", None, 200),
    ("DELETE", f"{THING}/features/f/properties/p", None, 204),
    ("DELETE", THING, None, 204),
    ("GET", THING, None, 404),
    ("DELETE", POLICY, None, 204),
]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async def history(_: object) -> Any:
        return of_json(200, [])

    backup = await backup_of(tmp_path / "data")
    async with served(tmp_path, history=history, backup=backup) as server:
        yield server


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Log levels as before: changing them is among what the description allows."""
    known = [logging.getLogger(), *(one for one in logging.Logger.manager.loggerDict.values() if hasattr(one, "level"))]
    before = [(logger, logger.level) for logger in known]
    yield
    for logger, level in before:
        logger.setLevel(level)


@pytest.fixture(scope="module")
def described() -> Any:
    return schemathesis.openapi.from_dict(json.loads(document()))


def fuzz(operation: Any, url: str) -> list[str]:
    """Send the operation what its description allows; what was answered otherwise than described."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Case) -> None:
        answer = case.call(base_url=url, auth=("devops", "devops"), timeout=20)
        case.validate_response(answer, checks=CHECKS)

    try:
        ask()
    except FailureGroup as problem:
        return [f"{operation.label}: {one}" for one in problem.exceptions]
    except Failure as problem:
        return [f"{operation.label}: {problem}"]
    return []


async def aside(work: Callable[[], list[str]]) -> list[str]:
    """Run what blocks while the server answers here."""
    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


async def test_nothing_that_the_description_allows_is_answered_otherwise_than_described(server: Served, described: Any):
    operations = [found.ok() for found in described.get_all_operations()]
    wanted = [
        one for one in operations if one.path not in PAGES and LINES not in one.get_request_payload_content_types()
    ]
    assert len(wanted) > 100

    def all_of_them() -> list[str]:
        return [problem for operation in wanted for problem in fuzz(operation, server.url)]

    async with asyncio.timeout(120):
        assert await aside(all_of_them) == []


async def test_the_bodies_of_a_journey_are_as_described(server: Served, described: Any):
    async with server.client("devops") as client:
        for method, url, body, status in JOURNEY:
            headers = {"content-type": PATCH} if method == "PATCH" else {}
            content = None if body is None else json.dumps(body).encode()
            if body is not None and method != "PATCH":
                headers["content-type"] = "application/json"
            answer = await client.request(method, url, content=content, headers=headers)
            assert answer.status_code == status, (method, url, answer.text)
            operation = described[path_of(method, httpx.URL(url).path)][method]
            operation.validate_response(answer)


def path_of(method: str, path: str) -> str:
    """The path in the table that a request is for: of those that match, the one with the fewest names in it."""
    given = path.split("/")
    found = [route.path for route in ROUTES if route.method == method and fits(route.path.split("/"), given)]
    return min(found, key=lambda path: (path.count("{"), -len(path)))


def fits(pattern: list[str], given: list[str]) -> bool:
    """Whether a path follows a pattern; a {...Path} at the end takes the rest."""
    if pattern[-1].endswith("Path}") and len(given) >= len(pattern):
        given = [*given[: len(pattern) - 1], "rest"]
    return len(pattern) == len(given) and all(
        part.startswith("{") or part == there for part, there in zip(pattern, given, strict=True)
    )
