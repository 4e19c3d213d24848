"""What is wrong with settings that are right one by one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from skerry_registry import rights
from skerry_registry.identities import creation, issuers, namespaces
from skerry_registry.identities.claims import problems_of
from skerry_registry.settings import Settings, SettingsInvalid, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

BRACED = re.compile(r"\{\{.*?\}\}")


def check(settings: Settings) -> None:
    """Raise SettingsInvalid with every contradiction there is."""
    if problems := list(contradictions(settings)):
        raise SettingsInvalid(problems="\n".join(problems))


def contradictions(settings: Settings) -> Iterator[str]:
    """One line for each; a server does not start with any of them."""
    if settings.mqtt_url is not None:
        text = settings.mqtt_url if "//" in settings.mqtt_url else f"mqtt://{settings.mqtt_url}"
        yield from _wrong_url("mqtt_url", text, ("mqtt", "mqtts", "tcp", "ssl"), "mqtt://host:1883")
    elif settings.http_port == settings.mqtt_port != 0 and settings.http_host == settings.mqtt_host:
        yield f"http_port and mqtt_port are both {settings.http_port}."
    if settings.influx_url is not None:
        yield from _wrong_url("influx_url", settings.influx_url, ("http", "https"), "http://host:8086")
        missing = [name for name in ("influx_token", "influx_org", "influx_bucket") if not getattr(settings, name)]
        if missing:
            yield f"influx_url (SKERRY_INFLUX_URL) needs {', '.join(missing)} ({variable(missing[0])} …) as well."
    yield from issuers.contradictions(
        settings.oidc_issuers, allow_http=settings.oidc_allow_http, reserved=dict(_reserved(settings))
    )
    yield from namespaces.contradictions(settings.namespace_access)
    yield from rights.contradictions(settings.namespace_policies)
    yield from creation.contradictions("entity_creation_grant", settings.entity_creation_grant)
    yield from creation.contradictions("entity_creation_revoke", settings.entity_creation_revoke)
    subject = settings.token_integration_subject
    if not (problems := list(problems_of(subject, ("jwt", "policy-entry")))) and not re.search(
        r".:.", BRACED.sub("x:x", subject)
    ):
        problems = [f"'{subject}' comes to no subject, issuer:name; write integration:{{{{ jwt:aud }}}}."]
    yield from (f"token_integration_subject: {problem}" for problem in problems)
    if settings.auth_status_password == "":
        yield "auth_status_password is empty, so anybody would know it; leave it out for none."
    names = [source.name for source in settings.sources]
    yield from (
        f"sources: there are two of the name {name!r}." for name in dict.fromkeys(names) if names.count(name) > 1
    )


def _reserved(settings: Settings) -> Iterator[tuple[str, str]]:
    """What begins the subjects of logins that no issuer of OpenID Connect may bring about, and whose they are."""
    integrations = "tokens that policies let in (activateTokenIntegration)"
    yield "integration", integrations
    issuer, colon, _ = settings.token_integration_subject.partition(":")
    if colon and "{" not in issuer:
        yield issuer, integrations
    yield settings.auth_basic_prefix.partition(":")[0], "users (auth_basic_prefix)"


def _wrong_url(name: str, text: str, schemes: tuple[str, ...], example: str) -> Iterator[str]:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        shown = text if "@" not in text else f"…@{text.rpartition('@')[2]}"
        yield f"{name} ({variable(name)}): '{shown}' is no address; write {example}."
