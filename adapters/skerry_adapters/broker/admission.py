"""Who is let in: a client's CONNECT, its login and its session, up to the CONNACK."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from skerry_adapters.broker.codec import encode
from skerry_adapters.broker.packets import V5, V311, Connack, Connect, Properties, Reason
from skerry_adapters.broker.rights import Refusal

if TYPE_CHECKING:
    from skerry_adapters.broker.connection import Connection

log = logging.getLogger(__name__)

TOPIC_ALIASES = 64
_LONGEST_CLIENT_ID = 256


async def admit(connection: Connection, packet: Connect) -> Reason | None:  # noqa: C901 - one refusal after the other
    """Why the client may not in; None when it is, and has its CONNACK."""
    broker, properties = connection.broker, packet.properties
    if "authentication_method" in properties:
        return Reason.BAD_AUTHENTICATION_METHOD
    if len(broker.connections) > broker.limits.connections:
        log.warning("mqtt connections exhausted", extra={"connections": len(broker.connections)})
        return Reason.QUOTA_EXCEEDED
    if len(packet.client_id) > _LONGEST_CLIENT_ID or (
        not packet.client_id and packet.version == V311 and not packet.clean
    ):
        return Reason.CLIENT_ID_NOT_VALID
    if packet.username is None or packet.password is None:
        return Reason.NOT_AUTHORIZED
    try:
        login = await broker.authenticate(packet.username, packet.password.decode(), connection.address)
    except UnicodeDecodeError:
        login = None
    if login is None:
        facts = {"user": packet.username, "client": packet.client_id, "address": connection.address}
        log.info("mqtt login refused", extra=facts)
        broker.note(Refusal("login", packet.username, (), packet.client_id, connection.address))
        return Reason.BAD_LOGIN
    if connection.closed:
        return None
    wanted = (
        properties.get("session_expiry_interval", 0) if packet.version == V5 else (0 if packet.clean else 0xFFFFFFFF)
    )
    expiry = min(wanted, broker.limits.session_seconds)
    client_id = packet.client_id or f"auto-{secrets.token_hex(8)}"
    session, present = broker.enter(connection, login.name, client_id, clean=packet.clean, expiry=expiry)
    session.login, session.address = login, connection.address
    session.origin = f"mqtt {client_id} {connection.address}"
    session.verdicts = broker.rights.verdicts(login)
    connection.largest = properties.get("maximum_packet_size", connection.largest)
    session.attach(connection, properties.get("receive_maximum", 65_535))
    connection.session = session
    connection.will = packet.will
    connection.keepalive = packet.keepalive
    if session.persistent:
        session.keep()
        await broker.storage.settled()
        if connection.closed:
            return None
    answer: Properties = {}
    if packet.version == V5:
        answer = {
            "receive_maximum": broker.limits.unacknowledged,
            "maximum_packet_size": broker.limits.packet_bytes,
            "topic_alias_maximum": TOPIC_ALIASES,
        }
        if expiry != wanted:
            answer["session_expiry_interval"] = expiry
        if not packet.client_id:
            answer["assigned_client_identifier"] = client_id
    connection.write(encode(Connack(present, 0, answer), packet.version))
    connection.open = True
    return None
