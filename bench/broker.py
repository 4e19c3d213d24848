"""Brokers against each other: QoS 1 publishes of 10 values per message, taken by nobody and by one subscriber.

.venv/bin/python bench/broker.py [--brokers skerry,amqtt,nats,mosquitto] [--messages 40000] [--clients 3]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measure import LeanClient, cpu, free_port, memory, percentiles, publish_packet, wait_for_port

PAYLOAD = (
    b'{"ts":1700000000000,"power":2150.3,"wind":9.8,"windDirection":231.5,"rotorSpeed":11.2,"pitch":0.4,'
    b'"yaw":229.1,"generatorTemperature":61.2,"ambientTemperature":8.4,"torque":1.9,"status":"operating"}'
)


async def run_amqtt(port: int) -> None:
    """The broker of the amqtt package, in process, without its plugins' chatter."""
    from amqtt.broker import Broker  # noqa: PLC0415 - only measured, never a dependency

    plugins: dict[str, dict[str, object]] = {
        "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
    }
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins})
    await broker.start()
    await asyncio.Event().wait()


async def run_skerry(port: int, folder: Path) -> None:
    """Our own, handing messages to a `take` that does nothing."""
    from skerry_adapters.broker import Broker, Login  # noqa: PLC0415 - each broker loads only its own
    from skerry_adapters.inbound import Inbound  # noqa: PLC0415

    async def take(messages: Sequence[Inbound]) -> None:
        """Take them at once."""

    async def authenticate(name: str, password: str, _address: str) -> Login | None:
        return Login(name, (f"nginx:{name}",)) if password else None

    clock = lambda: time.time_ns() // 1000  # noqa: E731
    async with Broker("127.0.0.1", port, take=take, authenticate=authenticate, folder=folder, clock=clock):
        await asyncio.Event().wait()


@contextmanager
def broker(name: str, folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """A broker on a free port, with the seconds it took to listen."""
    port = free_port()
    binaries = Path(sys.executable).parent
    if name == "nats":
        config = folder / "nats.conf"
        config.write_text(
            f'server_name: bench\nlisten: "127.0.0.1:{free_port()}"\njetstream {{ store_dir: "{folder}/js" }}\n'
            f'mqtt {{ listen: "127.0.0.1:{port}", max_ack_pending: 1000 }}\n'
        )
        command = [str(binaries / "nats-server"), "-c", str(config)]
    elif name == "mosquitto":
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 2000000\n"
            "set_tcp_nodelay true\npersistence false\nlog_type error\n"
        )
        command = ["/usr/sbin/mosquitto", "-c", str(config)]
    else:
        command = [sys.executable, __file__, "--run", name, "--port", str(port), "--folder", str(folder)]
    start = time.perf_counter()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for_port(port)
            yield port, process, time.perf_counter() - start
        finally:
            process.terminate()
            process.wait(10)


def publish(port: int, index: int, count: int, gate: object, answers: object) -> None:
    """One publisher process: `count` messages over 100 topics, at most 1,000 unacknowledged."""
    client = LeanClient(port, f"publisher-{index}", "bench", "bench")
    packets = [
        publish_packet(f"telemetry/demo/T{index}-{i % 100:03d}/scada", PAYLOAD, i % 65000 + 1) for i in range(count)
    ]
    gate.wait()  # type: ignore[attr-defined]
    start = time.perf_counter()
    times = client.publish_all(packets)
    answers.put((start, time.perf_counter(), times[:: max(1, count // 2000)]))  # type: ignore[attr-defined]
    client.close()


def subscribe(port: int, count: int, gate: object, answers: object) -> None:
    """One subscriber process: acknowledges `count` messages."""
    client = LeanClient(port, "subscriber", "bench", "bench")
    client.subscribe("telemetry/#")
    gate.wait()  # type: ignore[attr-defined]
    seconds = client.drain(count)
    answers.put((0.0, seconds, None))  # type: ignore[attr-defined]
    client.close()


def measure(port: int, clients: int, messages: int, *, listen: bool) -> str:
    """Rate and latencies of one run."""
    gate = multiprocessing.Barrier(clients + (1 if listen else 0))
    answers: multiprocessing.Queue[tuple[float, float, list[float] | None]] = multiprocessing.Queue()
    each = messages // clients
    workers = [multiprocessing.Process(target=publish, args=(port, i, each, gate, answers)) for i in range(clients)]
    if listen:
        workers.append(multiprocessing.Process(target=subscribe, args=(port, each * clients, gate, answers)))
    for worker in workers:
        worker.start()
    results = [answers.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    published = [r for r in results if r[2] is not None]
    seconds = max(r[1] for r in published) - min(r[0] for r in published)
    times = [t * 1000 for r in published for t in r[2] or []]
    line = f"{each * clients / seconds:9,.0f} acknowledged/s  {percentiles(times)}"
    if listen:
        received = next(r[1] for r in results if r[2] is None)
        line += f"  received {each * clients / received:,.0f}/s"
    return line


def main() -> None:
    """Measure each broker in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", default="skerry,mosquitto,nats,amqtt")
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        import uvloop  # noqa: PLC0415 - the server's loop, only in the server

        uvloop.run(run_amqtt(options.port) if options.run == "amqtt" else run_skerry(options.port, options.folder))
        return
    for name in options.brokers.split(","):
        messages = options.messages // 10 if name == "amqtt" else options.messages
        with tempfile.TemporaryDirectory() as folder, broker(name, Path(folder)) as (port, process, started):
            print(f"{name}: listens after {started * 1000:.0f} ms, {memory(process.pid):.0f} MB", flush=True)
            for listen in (False, True):
                before = cpu(process.pid)
                line = measure(port, options.clients, messages, listen=listen)
                used = (cpu(process.pid) - before) / messages * 1e6
                print(
                    f"  {'one subscriber' if listen else 'no subscriber ':14} {line}  {used:.0f} us CPU/message",
                    flush=True,
                )
            print(f"  afterwards {memory(process.pid):.0f} MB", flush=True)


if __name__ == "__main__":
    main()
