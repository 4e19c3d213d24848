"""The description of the API, its page, and the farm's page: complete, from here only, and safe."""

import json
import re
from pathlib import Path

from litestar import Litestar

from skerry_registry import http
from skerry_registry.bulk.progress import Progress
from skerry_registry.http.answer import of_json
from skerry_registry.http.openapi import document
from skerry_registry.http.parameters import PARAMETERS, SCHEMAS
from skerry_registry.http.routes import ROUTES, allowed
from skerry_registry.identities.logins import Identities
from skerry_registry.live.streams import Streams
from skerry_registry.registry import Registry
from skerry_registry.settings import Settings
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.users import Users
from wire.http_server import backup_of, inside_of, served

PAGE = Path(http.__file__).parents[1] / "page"
MOUNTED = (
    "/ws",
    "/api/2/audit",
    "/api/2/bulk",
    "/api/2/search/things",
    "/api/2/things",
    "/api/2/cloudevents",
    "/devops",
    "/api/2/policies",
    "/api/2/checkPermissions",
    "/api/2/timeseries",
)


async def nothing(request: object) -> None:
    raise AssertionError


def application(tmp_path: Path) -> Litestar:
    registry = Registry(MemoryStore(), int, str)
    return http.create_http(
        registry,
        Identities.of(Settings(data_dir=str(tmp_path)), Users(tmp_path / "none.json"), int),
        Settings(),
        new_id=lambda: "id",
        health=dict,
        history=nothing,
        audit=nothing,
        progress=Progress(None, lambda: 0),
        search=None,
        streams=Streams.of(registry),
        page_folder=PAGE,
        inside=inside_of(Settings(), registry, MemoryStore()),
    )


def test_every_route_of_the_application_is_in_the_document_and_the_other_way_round(tmp_path: Path):
    served_paths = {re.sub(r"{(\w+):\w+}", r"{\1}", route.path) for route in application(tmp_path).routes}
    files = {f"/{file.name}" for file in PAGE.iterdir()} | {"/apidoc/apidoc.css", "/apidoc/apidoc.js"}
    described = set(json.loads(document())["paths"])
    assert set(MOUNTED) <= served_paths
    assert {path for path in described if not path.startswith(MOUNTED)} == served_paths - files - set(MOUNTED)
    assert {(route.method, route.path) for route in ROUTES} == {(method, path) for method, path, _ in http.routes()}
    assert len(http.routes()) == len({(method, path) for method, path, _ in http.routes()})


def test_the_document_refers_only_to_what_it_defines():
    described = json.loads(document())
    for reference in re.findall(r'"#/([^"]+)"', document().decode()):
        found = described
        for key in reference.split("/"):
            found = found[key]
    for path, methods in described["paths"].items():
        names = {one["$ref"].rpartition("/")[2] for facts in methods.values() for one in facts.get("parameters", ())}
        assert set(re.findall(r"{(\w+)}", path)) <= names
    ids = [facts["operationId"] for methods in described["paths"].values() for facts in methods.values()]
    assert len(ids) == len(set(ids))
    assert all(f'"#/components/parameters/{name}"' in document().decode() for name in PARAMETERS)
    assert all(f'"#/components/schemas/{name}"' in document().decode() for name in SCHEMAS)


async def test_every_route_of_the_table_leads_somewhere(tmp_path: Path):
    examples = {name: facts.get("example", "") for name, facts in PARAMETERS.items()}

    async def history(request: object) -> object:
        return of_json(200, [])

    backup = await backup_of(tmp_path / "data")
    async with (
        served(tmp_path, page_folder=PAGE, history=history, backup=backup) as server,
        server.client("devops") as client,
    ):
        for route in ROUTES:
            path = re.sub(r"{(\w+)}", lambda found: examples[found[1]], route.path)
            answer = await client.request(route.method, path, json={} if route.body else None)
            missing = answer.status_code == 404 and answer.json()["error"] == "gateway:path.notfound"
            assert not missing, path
            assert answer.status_code not in {405, 500, 501}, (route.method, path, answer.text)
            assert route.method in allowed(path)


async def test_the_pages_load_nothing_from_elsewhere(tmp_path: Path):
    async with served(tmp_path, page_folder=PAGE) as server, server.client() as client:
        for path in (
            "/",
            "/apidoc",
            "/apidoc/2",
            "/apidoc/apidoc.js",
            "/apidoc/apidoc.css",
            "/page/style.css",
            "/style.css",
        ):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert not re.search(r"(src|href|url\()=?[\"']?(https?:)?//", answer.text)


async def test_the_description_needs_no_login_and_the_farm_does(tmp_path: Path):
    async with served(tmp_path, page_folder=PAGE) as server, server.client(None) as client:
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
        assert (await client.get("/apidoc")).headers["content-type"].startswith("text/html")
        assert (await client.get("/apidoc/apidoc.js")).status_code == 200
        assert (await client.get("/")).status_code == 401
        assert (await client.get("/page/app.js")).status_code == 401
