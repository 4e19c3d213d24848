"""The options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SERVER, LOGIN = "Server", "Login"


class Role(StrEnum):
    """What a login may be good for beside what policies grant it."""

    devops = "devops"
    status = "status"
    mqtt_admin = "mqtt_admin"


Roles = Annotated[
    list[Role] | None,
    typer.Option(
        "--role",
        help="devops may operate the server, status see /status, mqtt_admin use all topics; repeatable.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="SKERRY_CONFIG",
        metavar="FILE",
        help="A TOML file of settings; see docs/configuration.md.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="FOLDER", rich_help_panel=SERVER, help="The server's data folder."),
]
HttpHost = Annotated[str | None, typer.Option("--http-host", rich_help_panel=SERVER, help="Where HTTP listens.")]
HttpPort = Annotated[
    int | None,
    typer.Option("--http-port", min=0, max=65535, rich_help_panel=SERVER, help="HTTP port; 0 takes a free one."),
]
MqttPort = Annotated[
    int | None,
    typer.Option(
        "--mqtt-port",
        min=0,
        max=65535,
        rich_help_panel=SERVER,
        help="Port of the embedded MQTT broker; 0 takes a free one.",
    ),
]
MqttUrl = Annotated[
    str | None,
    typer.Option(
        "--mqtt-url",
        metavar="URL",
        rich_help_panel=SERVER,
        help="An external MQTT broker: mqtt://[user:password@]host[:port].",
    ),
]
LoginUser = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-u",
        envvar="SKERRY_USER",
        rich_help_panel=LOGIN,
        help="Who logs in; the setting login_user otherwise.",
    ),
]
LoginPassword = Annotated[
    str | None,
    typer.Option(
        "--password",
        "-p",
        envvar="SKERRY_PASSWORD",
        rich_help_panel=LOGIN,
        help="The password; better the setting login_password, or SKERRY_LOGIN_PASSWORD(_FILE).",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        rich_help_panel=SERVER,
        help="The server, http://host:port; from the settings otherwise.",
    ),
]
