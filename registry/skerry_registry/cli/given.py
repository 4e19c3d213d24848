"""From what was given on the command line to settings, addresses and logins."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from skerry_adapters.farm.outlet import Broker, broker_at
from skerry_registry.cli.client import Client
from skerry_registry.settings import Settings, load

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


def settings_of(config: Path | None, **given: object) -> Settings:
    """The settings of file, variables and options. Raises SettingsInvalid."""
    return load(
        config, os.environ, {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    )


def tell_folder(
    config: Path | None, data_dir: Path | None, file: Path | None, path_of: Callable[[Settings], Path]
) -> None:
    """Say in which folder a file is that no option names, and whether a server has ever used that folder."""
    if data_dir is not None or file is not None:
        return
    settings = settings_of(config)
    folder, served = path_of(settings).absolute().parent, Path(settings.data_dir).absolute()
    said = f"Folder: {folder}"
    if folder == served and not (served / "journal.db").exists():
        said += "; no server has used this folder yet (--data-dir names the server's, or --config its settings)"
    typer.echo(f"{said}.", err=True)


def called() -> str:
    """How a person calls this command: `skerry`, or its path where the shell would not find it."""
    path, found = Path(sys.argv[0]), shutil.which("skerry")
    known = found is not None and path.exists() and path.samefile(found)
    return "skerry" if known or path.name != "skerry" else shlex.quote(sys.argv[0])


def broker_of(settings: Settings) -> Broker:
    """The MQTT broker that the settings name, and who publishes there. Raises BrokerRefused."""
    if settings.mqtt_url is not None:
        if settings.mqtt_username is not None:
            return broker_at(settings.mqtt_url, settings.mqtt_username, settings.mqtt_password)
        return broker_at(settings.mqtt_url, settings.login_user, settings.login_password)
    return Broker(
        host=_EVERYWHERE.get(settings.mqtt_host, settings.mqtt_host),
        port=settings.mqtt_port,
        username=settings.login_user,
        password=settings.login_password,
    )


def client_of(settings: Settings, url: str | None = None) -> Client:
    """A client of the server's HTTP edge."""
    host = _EVERYWHERE.get(settings.http_host, settings.http_host)
    host = f"[{host}]" if ":" in host else host
    return Client(url or f"http://{host}:{settings.http_port}", settings.login_user, settings.login_password)
