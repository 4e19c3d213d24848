"""MQTT clients against each other: QoS 1 messages of 10 values drained from a Mosquitto by a taker that does nothing.

Prints messages/s and the client's own CPU per message, for each way to use paho, for aiomqtt and for ours; `lean` is the
yardstick, a loop over a socket. Acknowledged after the taker has returned, except with aiomqtt, which acknowledges itself.
Run: .venv/bin/python bench/mqtt_client.py [--messages 40000] [--clients lean,skerry,paho-loop,paho-thread,aiomqtt]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import aiomqtt
import uvloop
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from ingest import make_packets
from measure import LeanClient, mosquitto
from skerry_adapters.inbound import Inbound
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.sources import DEFAULT_SOURCES

FILTER = "telemetry/#"


async def lean(port: int, messages: int, start: threading.Event) -> None:
    """Bytes in, acknowledgements out."""
    client = LeanClient(port, "lean")
    client.subscribe(FILTER)
    start.set()
    await asyncio.to_thread(client.drain, messages)
    client.close()


async def skerry(port: int, messages: int, start: threading.Event) -> None:
    """Ours."""
    seen, done = 0, asyncio.Event()

    async def take(batch: Sequence[Inbound]) -> None:
        nonlocal seen
        seen += len(batch)
        if seen >= messages:
            done.set()

    address = Address.read(f"mqtt://127.0.0.1:{port}")
    async with MqttClient(address, DEFAULT_SOURCES, take, lambda: time.time_ns() // 1000) as client:
        while not client.status.connected:  # noqa: ASYNC110 - a benchmark
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        start.set()
        await done.wait()


def paho(client_id: str) -> Client:
    """A paho client with manual acknowledgement."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, manual_ack=True)
    client.suppress_exceptions = False
    return client


async def paho_thread(port: int, messages: int, start: threading.Event) -> None:
    """A thread of paho's own, which hands each message to the loop; the loop acknowledges."""
    loop, seen, done = asyncio.get_running_loop(), 0, asyncio.Event()
    client = paho("thread")
    waiting: list[MQTTMessage] = []

    def deal() -> None:
        nonlocal seen
        batch = waiting[:]
        del waiting[: len(batch)]
        for message in batch:
            client.ack(message.mid, message.qos)
        seen += len(batch)
        if seen >= messages:
            done.set()

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        waiting.append(message)
        if len(waiting) == 1:
            loop.call_soon_threadsafe(deal)

    client.on_message = on_message
    client.on_connect = lambda *_: client.subscribe(FILTER, 1)
    client.on_subscribe = lambda *_: start.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    await done.wait()
    client.disconnect()
    client.loop_stop()


async def paho_loop(port: int, messages: int, start: threading.Event) -> None:
    """A paho driven by the event loop, all that is there read in one turn."""
    loop, seen, done = asyncio.get_running_loop(), 0, asyncio.Event()
    client = paho("loop")
    batch: list[MQTTMessage] = []

    def readable() -> None:
        nonlocal seen
        had = -1
        while len(batch) != had and len(batch) < 500:
            had = len(batch)
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        for message in batch:
            client.ack(message.mid, message.qos)
        client.loop_write()
        seen += len(batch)
        batch.clear()
        if seen >= messages:
            done.set()

    client.on_socket_register_write = lambda *_: None
    client.on_message = lambda _client, _data, message: batch.append(message)
    client.on_connect = lambda *_: client.subscribe(FILTER, 1)
    client.on_subscribe = lambda *_: start.set()
    client.connect("127.0.0.1", port)
    client.loop_write()
    sock = client.socket()
    assert sock is not None
    loop.add_reader(sock.fileno(), readable)
    await done.wait()
    loop.remove_reader(sock.fileno())
    client.disconnect()


async def through_aiomqtt(port: int, messages: int, start: threading.Event) -> None:
    """aiomqtt: acknowledged when paho has handed it over, before anybody has dealt with it."""
    async with aiomqtt.Client("127.0.0.1", port, identifier="aiomqtt") as client:
        await client.subscribe(FILTER, qos=1)
        start.set()
        seen = 0
        async for _ in client.messages:
            seen += 1
            if seen >= messages:
                break


CLIENTS = {
    "lean": lean,
    "skerry": skerry,
    "paho-loop": paho_loop,
    "paho-thread": paho_thread,
    "aiomqtt": through_aiomqtt,
}


def generate(port: int, messages: int) -> None:
    """The load, in a process of its own."""
    packets = make_packets(messages, 1000)
    client = LeanClient(port, "generator")
    print("ready", flush=True)
    sys.stdin.readline()
    client.publish_all(packets)
    client.close()


def measure(name: str, messages: int, folder: Path) -> tuple[float, float]:
    """Messages/s and microseconds of CPU per message."""
    with mosquitto(folder) as (port, _):
        command = [sys.executable, __file__, "--generate", str(port), "--messages", str(messages)]
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdout.readline()
        start = threading.Event()
        begun: list[tuple[float, float]] = []

        def go() -> None:
            start.wait()
            begun.append((time.perf_counter(), time.process_time()))
            load.communicate(b"\n")

        starter = threading.Thread(target=go)
        starter.start()
        uvloop.run(CLIENTS[name](port, messages, start))
        wall, used = time.perf_counter(), time.process_time()
        starter.join()
    return messages / (wall - begun[0][0]), (used - begun[0][1]) / messages * 1e6


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        return generate(options.generate, options.messages)
    for name in options.clients.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rate, used = measure(name, options.messages, Path(folder))
        print(f"{name:12} {rate:8,.0f} messages/s   {used:5.1f} us CPU per message")
    return None


if __name__ == "__main__":
    main()
