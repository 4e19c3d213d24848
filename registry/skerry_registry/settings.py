"""The settings: one frozen struct, read once from a TOML file and SKERRY_* variables."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from skerry_adapters.sources import DEFAULT_SOURCES, Source

Port = Annotated[int, Meta(ge=0, le=65535)]
Size = Annotated[int, Meta(gt=0)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, flat: `http_port` is `port` in the TOML table `[http]`, and `SKERRY_HTTP_PORT`."""

    data_dir: Annotated[str, Meta(description="The folder of the journal, the series and the users. One server at a time.")] = "data"
    http_host: Annotated[str, Meta(description="Where HTTP listens.")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="HTTP port; 0 takes a free one and prints it.")] = 8080
    mqtt_host: Annotated[str, Meta(description="Where the embedded broker listens.")] = "127.0.0.1"
    mqtt_port: Annotated[Port, Meta(description="Port of the embedded broker; 0 takes a free one.")] = 1883
    mqtt_url: Annotated[str | None, Meta(description="An external broker instead: mqtt://[user:password@]host[:port], mqtts:// for TLS.")] = None
    mqtt_username: Annotated[str | None, Meta(description="Login at the external broker, if not in the URL.")] = None
    mqtt_password: Annotated[str | None, Meta(description="Its password.")] = None
    mqtt_client_id: Annotated[str, Meta(description="The stable client id at the external broker; one per server.")] = "skerry"
    mqtt_session_expiry: Annotated[int, Meta(ge=3600, description="Seconds the external broker keeps our session while we are away (MQTT 5).")] = 86_400
    influx_url: Annotated[str | None, Meta(description="InfluxDB 2 as the series store instead of the embedded one.")] = None
    influx_token: Annotated[str | None, Meta(description="Its API token.")] = None
    influx_org: Annotated[str | None, Meta(description="Its organisation.")] = None
    influx_bucket: Annotated[str | None, Meta(description="Its bucket.")] = None
    users_file: Annotated[str | None, Meta(description="The users with their argon2 hashes; users.json in the data folder if absent.")] = None
    auth_basic_prefix: Annotated[str, Meta(description="Prefix of the subject that a Basic login becomes.")] = "nginx:"
    auth_pre_authenticated: Annotated[bool, Meta(description="Trust the header x-ditto-pre-authenticated. Only behind a proxy that sets it.")] = False
    thing_max_bytes: Annotated[Size, Meta(description="Largest thing, as JSON.")] = 102_400
    policy_max_bytes: Annotated[Size, Meta(description="Largest policy, as JSON.")] = 102_400
    message_max_bytes: Annotated[Size, Meta(description="Largest message payload.")] = 256_000
    journal_retention_days: Annotated[float, Meta(ge=0, description="Events older than this are forgotten once every consumer has read them; 0 keeps all.")] = 3.0
    journal_max_bytes: Annotated[int, Meta(ge=0, description="The journal's size at which the oldest events go, whatever their age; 0 for no bound.")] = 4_000_000_000
    series_retention_days: Annotated[float, Meta(ge=0, description="Samples older than this are forgotten (embedded store); 0 keeps all.")] = 400.0
    series_memory: Annotated[str, Meta(description="Memory the embedded series store may take.")] = "512MB"
    cache_things: Annotated[Size, Meta(description="How many entities are kept decoded in memory.")] = 20_000
    dead_letters_max: Annotated[Size, Meta(description="How many dead letters are kept; the oldest go first.")] = 10_000
    cors_origins: Annotated[str, Meta(description="Origins a browser may call from, comma separated; * for any.")] = "*"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="How much is logged.")] = "INFO"
    log_format: Annotated[Literal["text", "json"], Meta(description="Log lines for people or for machines.")] = "text"
    sources: Annotated[tuple[Source, ...], Meta(description="What is taken in over MQTT: see docs/devices.md.")] = DEFAULT_SOURCES
