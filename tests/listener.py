"""Somebody who hears everything that goes over a broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


@contextmanager
def listening(port: int) -> Iterator[list[tuple[str, bytes]]]:
    """What is published from now on, growing: topic and payload."""
    heard: list[tuple[str, bytes]] = []
    ready = threading.Event()

    def on_connect(client: paho.Client, *_: Any) -> None:
        client.subscribe("#", 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, _data, message: heard.append((message.topic, message.payload))
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
