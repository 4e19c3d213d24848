"""The settings: one frozen struct, read once from a TOML file and SKERRY_* variables."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct, field

from skerry.errors import SkerryError
from skerry_adapters.sources import DEFAULT_SOURCES, Source
from skerry_registry.identities.creation import CreationRule
from skerry_registry.identities.issuers import Issuer
from skerry_registry.identities.namespaces import NamespaceRule

Port = Annotated[int, Meta(ge=0, le=65535)]
Size = Annotated[int, Meta(gt=0)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, flat: `http_port` is `port` in the TOML table `[http]`, and `SKERRY_HTTP_PORT`."""

    data_dir: Annotated[
        str, Meta(description="The folder of the journal, the series and the users. One server at a time.")
    ] = "data"
    http_host: Annotated[str, Meta(description="Where HTTP listens.")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="HTTP port; 0 takes a free one and prints it.")] = 8080
    mqtt_host: Annotated[str, Meta(description="Where the embedded broker listens.")] = "127.0.0.1"
    mqtt_port: Annotated[Port, Meta(description="Port of the embedded broker; 0 takes a free one.")] = 1883
    mqtt_url: Annotated[
        str | None,
        Meta(
            description="An external broker instead: mqtt://[user:password@]host[:port], mqtts:// for TLS (or tcp://, ssl://)."
        ),
    ] = None
    mqtt_username: Annotated[str | None, Meta(description="Login at the external broker, if not in the URL.")] = None
    mqtt_password: Annotated[str | None, Meta(description="Its password.")] = None
    mqtt_client_id: Annotated[str, Meta(description="The stable client id at the external broker; one per server.")] = (
        "skerry"
    )
    mqtt_session_expiry: Annotated[
        int, Meta(ge=3600, description="Seconds the external broker keeps our session while we are away (MQTT 5).")
    ] = 86_400
    influx_url: Annotated[
        str | None, Meta(description="InfluxDB 2 as the series store instead of the embedded one.")
    ] = None
    influx_token: Annotated[str | None, Meta(description="Its API token.")] = None
    influx_org: Annotated[str | None, Meta(description="Its organisation.")] = None
    influx_bucket: Annotated[str | None, Meta(description="Its bucket.")] = None
    login_user: Annotated[
        str | None,
        Meta(description="Who `simulate`, `watch`, `policy`, `export` and the like log in as; not read by `serve`."),
    ] = None
    login_password: Annotated[str | None, Meta(description="Their password.")] = None
    users_file: Annotated[
        str | None, Meta(description="The users with their argon2 hashes; users.json in the data folder if absent.")
    ] = None
    auth_basic_prefix: Annotated[str, Meta(description="Prefix of the subject that a Basic login becomes.")] = "nginx:"
    auth_pre_authenticated: Annotated[
        bool, Meta(description="Trust the header x-ditto-pre-authenticated. Only behind a proxy that sets it.")
    ] = False
    auth_devops_subjects: Annotated[
        tuple[str, ...], Meta(description="Subjects of tokens that may operate the server, as the role devops.")
    ] = ()
    auth_status_subjects: Annotated[
        tuple[str, ...], Meta(description="Subjects of tokens that may see /status, as the role status.")
    ] = ()
    auth_status_password: Annotated[
        str | None,
        Meta(description="With this password the user devops may see /status and nothing else; none if absent."),
    ] = None
    tokens_file: Annotated[
        str | None, Meta(description="The API tokens as hashes; tokens.json in the data folder if absent.")
    ] = None
    oidc_issuers: Annotated[
        dict[str, Issuer],
        Meta(description="Issuers of OpenID Connect by the name that their subjects get: see docs/identities.md."),
    ] = {}
    oidc_allow_http: Annotated[
        bool, Meta(description="Let issuers be asked over plain http. Only where nobody can come between.")
    ] = False
    oidc_clock_skew: Annotated[
        int, Meta(ge=0, le=300, description="Seconds by which the clock of an issuer may differ from ours.")
    ] = 10
    namespace_access: Annotated[
        tuple[NamespaceRule, ...],
        Meta(description="Who may reach which namespaces, whatever policies say: see docs/identities.md."),
    ] = ()
    entity_creation_grant: Annotated[
        tuple[CreationRule, ...],
        Meta(description="Who may create what; everybody everything without an entry: see docs/identities.md."),
    ] = ()
    entity_creation_revoke: Annotated[
        tuple[CreationRule, ...], Meta(description="Who may not, although an entry above grants it.")
    ] = ()
    ws_frames_per_second: Annotated[
        int,
        Meta(
            ge=0,
            description="Frames that one WebSocket session may send in a second; a quarter more are let through, the rest refused. 0: no bound.",
        ),
    ] = 0
    sse_search_results_per_second: Annotated[
        int,
        Meta(
            ge=0,
            description="Search results that one stream of server-sent events gets in a second; 0 for no bound.",
        ),
    ] = 0
    thing_max_bytes: Annotated[Size, Meta(description="Largest thing, as JSON.")] = 102_400
    policy_max_bytes: Annotated[Size, Meta(description="Largest policy, as JSON.")] = 102_400
    policy_subject_expiry_granularity: Annotated[
        float, Meta(ge=0, description="Seconds to a multiple of which the expiry of a policy's subjects is rounded up.")
    ] = 3_600
    policy_subject_deletion_announcement_granularity: Annotated[
        float, Meta(ge=0, description="Seconds to a multiple of which beforeExpiry of an announcement is rounded up.")
    ] = 60
    token_integration_subject: Annotated[
        str,
        Meta(
            description="The subject that activateTokenIntegration lets in; {{ jwt:… }} are claims of the caller's token."
        ),
    ] = "integration:{{policy-entry:label}}:{{jwt:aud}}"  # noqa: S105 - a template of subjects
    policy_lockout_prevention: Annotated[
        bool, Meta(description="Refuse changes of a policy after which nobody could write it any more.")
    ] = True
    namespace_policies: Annotated[
        dict[str, tuple[str, ...]],
        Meta(
            description="Namespace, or a.b.* for all below it, or * -> policies whose implicit entries count in every policy there."
        ),
    ] = field(default_factory=dict)
    bulk_max_rows: Annotated[Size, Meta(description="Rows that one request to /api/2/bulk may have.")] = 1_000_000
    bulk_max_bytes: Annotated[Size, Meta(description="Bytes that one request to /api/2/bulk may have.")] = 2_000_000_000
    bulk_atomic_rows: Annotated[
        int, Meta(gt=0, le=10_000, description="Rows that may be done all or none; others wait while they are decided.")
    ] = 1_000
    bulk_key_hours: Annotated[
        float, Meta(gt=0, description="How long an upload is remembered by its Idempotency-Key after its last row.")
    ] = 24.0
    message_max_bytes: Annotated[Size, Meta(description="Largest message payload.")] = 256_000
    journal_retention_days: Annotated[
        float,
        Meta(ge=0, description="Events older than this are forgotten once every consumer has read them; 0 keeps all."),
    ] = 3.0
    journal_max_bytes: Annotated[
        int,
        Meta(ge=0, description="The journal's size at which the oldest events go, whatever their age; 0 for no bound."),
    ] = 4_000_000_000
    historical_headers_to_persist: Annotated[
        tuple[str, ...],
        Meta(description="Headers of a change that a read of the state after it tells as `historical-headers`."),
    ] = ()
    series_retention_days: Annotated[
        float,
        Meta(
            ge=0,
            description="Samples that came in longer ago are forgotten, whatever their own time (embedded store); 0 keeps all.",
        ),
    ] = 400.0
    series_memory: Annotated[
        str,
        Meta(
            pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$",
            description="Memory the embedded series store may take.",
            examples=["512MB"],
        ),
    ] = "256MB"
    cache_things: Annotated[
        Size,
        Meta(description="How many entities are kept decoded in memory; one of more than 4 KiB counts as several."),
    ] = 50_000
    cache_text_bytes: Annotated[
        int,
        Meta(
            ge=0, description="Memory for the documents of things that were found, as JSON, for the next who find them."
        ),
    ] = 256_000_000
    audit_retention_days: Annotated[
        float, Meta(ge=0, description="Audit records older than this are forgotten; 0 keeps all.")
    ] = 365.0
    audit_telemetry: Annotated[
        Literal["off", "hourly"],
        Meta(description="Whether the audit trail counts, hour by hour, which device sent telemetry to which thing."),
    ] = "off"
    audit_max_bytes: Annotated[
        int, Meta(ge=0, description="The audit trail's size at which the oldest records go; 0 for no bound.")
    ] = 1_000_000_000
    dead_letters_max: Annotated[Size, Meta(description="How many dead letters are kept; the oldest go first.")] = 10_000
    cors_origins: Annotated[str, Meta(description="Origins a browser may call from, comma separated; * for any.")] = "*"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="How much is logged.")] = "INFO"
    log_format: Annotated[Literal["text", "json"], Meta(description="Log lines for people or for machines.")] = "text"
    sources: Annotated[tuple[Source, ...], Meta(description="What is taken in over MQTT: see docs/devices.md.")] = (
        DEFAULT_SOURCES
    )


class SettingsInvalid(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """The settings cannot be used; the message has one line per problem."""

    code: ClassVar[str] = "settings.invalid"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "{problems}"
    description: ClassVar[str | None] = "See docs/configuration.md, or `skerry check --docs`, for every setting."


PATHS = ("data_dir", "tokens_file", "users_file")
TABLES: dict[str, type[Struct] | None] = {
    "namespace_policies": None,
    "sources": Source,
    "oidc_issuers": Issuer,
    "namespace_access": NamespaceRule,
    "entity_creation_grant": CreationRule,
    "entity_creation_revoke": CreationRule,
}
"""Settings that are tables themselves, and the struct that each holds (None: lists of texts)."""
LISTS = ("auth_devops_subjects", "auth_status_subjects")
"""Settings that are several texts; in a variable, with commas between."""
PREFIX = "SKERRY_"
_ASIDE = ("SKERRY_CONFIG", "SKERRY_TEST_")
_OPTIONS = frozenset({"SKERRY_USER", "SKERRY_PASSWORD"})
"""Variables that stand for options of commands, not for settings."""


def load(config: Path | None, environ: Mapping[str, str], given: Mapping[str, object] | None = None) -> Settings:
    """The settings of a file, overridden by variables, overridden by what was given on the command line (None: not given).

    Raises SettingsInvalid with every problem there is, each naming the setting, where it stands and what would be right.
    """
    problems: list[str] = []
    found: dict[str, Any] = {}
    if config is not None:
        found.update(_from_file(config, problems))
    found.update(_from_environ(environ, problems))
    found.update({name: value for name, value in (given or {}).items() if value is not None})
    if problems:
        raise SettingsInvalid(problems="\n".join(problems))
    return Settings(**found)


def is_secret(name: str) -> bool:
    """Whether the setting's value is kept from screens and may stand in a file of its own."""
    return name.endswith(("_token", "_password"))


def users_path(settings: Settings) -> Path:
    """The file of the users."""
    return Path(settings.users_file) if settings.users_file else Path(settings.data_dir) / "users.json"


def tokens_path(settings: Settings) -> Path:
    """The file of the API tokens."""
    return Path(settings.tokens_file) if settings.tokens_file else Path(settings.data_dir) / "tokens.json"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _from_file(path: Path, problems: list[str]) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid(problems=f"The settings file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(problems=f"The settings file {path} is not UTF-8 (byte {error.start}).") from error
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(problems=f"The settings file {path} is not TOML: {error}.") from error
    found: dict[str, object] = {}
    for table, key, value in _flat(tree):
        name = f"{table}_{key}" if table else key
        written = f"[{table}] {key}" if table else key
        where = f"{path}{_line(text, table, key)}: {written}"
        if name not in _TYPES:
            problems.append(f"{where} is no setting{_nearest(name, _TYPES, _in_toml)}.")
        elif name in found:
            problems.append(f"{where} stands there a second time (as {name}).")
        elif (converted := _convert(name, value, where, problems, strict=True)) is not _FAILED:
            found[name] = str(path.parent / str(converted)) if name in PATHS and converted else converted
    return found


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    names = {variable(name): name for name in _TYPES}
    files = {f"{variable(name)}_FILE": name for name in _TYPES if is_secret(name)}
    for written, text in sorted(environ.items()):
        if not written.startswith(PREFIX) or written.startswith(_ASIDE) or written in _OPTIONS or not text:
            continue
        name = names.get(written) or files.get(written)
        if name is None:
            problems.append(f"The variable {written} is no setting{_nearest(written, [*names, *files], str)}.")
        elif name in found:
            problems.append(f"The variables {variable(name)} and {variable(name)}_FILE are both set: keep one.")
        else:
            try:
                value = _text_value(name, text, in_file=written in files)
            except (OSError, ValueError) as error:
                problems.append(f"The variable {written} cannot be used: {error}.")
                continue
            converted = _convert(name, value, f"The variable {written}", problems, strict=False)
            if converted is not _FAILED:
                found[name] = converted
    return found


def _text_value(name: str, text: str, *, in_file: bool) -> object:
    if in_file:
        return Path(text).read_text(encoding="utf-8").strip()
    if name in LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    return json.loads(text) if name in TABLES else text


def _flat(tree: dict[str, Any], within: str = "") -> Iterator[tuple[str, str, object]]:
    for key, value in tree.items():
        name = f"{within}_{key}" if within else key
        if isinstance(value, dict) and name not in TABLES:
            yield from _flat(value, name)
        else:
            yield within, key, value


def _line(text: str, table: str, key: str) -> str:
    """Where the key stands, as ":12", or nothing where the text is written in an unusual way."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([\w.\s-]+?)\s*\]+", line)
        if header:
            inside = header[1].replace(".", "_")
            name = f"{table}_{key}" if table else key
            if inside == name or (name in TABLES and inside.startswith(f"{name}_")):
                return f":{number}"
        elif inside == table and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return f":{number}"
    return ""


def _convert(name: str, value: object, where: str, problems: list[str], *, strict: bool) -> object:
    try:
        return msgspec.convert(value, _TYPES[name], strict=strict)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "").replace(" - at $", ", at ")
        if isinstance(value, dict) and "[...]" in said:
            said = said.replace("[...]", f"[{_culprit(value, _TYPES[name])}]", 1)
        if name in TABLES:
            unknown = re.search(r"unknown field (\w+)", said)
            members = getattr(TABLES[name], "__struct_fields__", ())
            near = _nearest(unknown[1], members, str) if unknown else ""
            problems.append(f"{where}: {said.removesuffix('.')}{near}.")
        else:
            shown = "" if is_secret(name) else f", not {json.dumps(value, default=str)}"
            problems.append(f"{where}: expected {_type_text(_TYPES[name])}{shown}.")
        return _FAILED


def _culprit(tables: dict[str, Any], type_: Any) -> str:
    """The first table that is not of the type: msgspec does not say which."""
    for name, table in tables.items():
        try:
            msgspec.convert({name: table}, type_)
        except msgspec.ValidationError:
            return name
    return "..."


def _nearest(name: str, known: Iterable[str], write: Callable[[str], str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; the nearest is {write(near[0])}" if near else ""


def _in_toml(name: str) -> str:
    table, _, key = name.partition("_")
    return f"[{table}] {key}" if sum(other.startswith(f"{table}_") for other in _TYPES) > 1 else name


_FAILED = object()
_TYPES: dict[str, Any] = get_type_hints(Settings, include_extras=True)


class Described(Struct, frozen=True):
    """One setting for people: how it is written in TOML and as a variable, its type, default and meaning."""

    name: str
    toml: str
    variable: str
    type: str
    default: str
    meaning: str


def described() -> list[Described]:
    """Every setting, in the struct's order."""
    defaults = Settings()
    return [
        Described(
            name,
            _in_toml(name),
            variable(name),
            _type_text(hint),
            "" if name in TABLES or getattr(defaults, name) in {None, ()} else _default_text(getattr(defaults, name)),
            next(meta.description for meta in get_args(hint) if isinstance(meta, Meta) and meta.description),
        )
        for name, hint in _TYPES.items()
    ]


def _default_text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _type_text(hint: Any) -> str:
    bare = get_args(hint)[0]
    bounds = [meta for meta in get_args(hint) if isinstance(meta, Meta)]
    if get_origin(bare) is Annotated:
        bounds += [meta for meta in get_args(bare) if isinstance(meta, Meta)]
        bare = get_args(bare)[0]
    kinds: dict[Any, str] = {int: "integer", float: "number", bool: "true or false", str: "text", str | None: "text"}
    kinds[tuple[str, ...]] = "texts"
    text = kinds.get(bare) or (" or ".join(get_args(bare)) if get_origin(bare) is Literal else "tables")
    for meta in bounds:
        for sign, bound in (("≥", meta.ge), (">", meta.gt), ("≤", meta.le)):
            text += f" {sign} {bound}" if bound is not None else ""
        text += f" such as {meta.examples[0]}" if meta.examples else ""
    return text
