"""The ACL file that `skerry mqtt acl` prints gives users at a real Mosquitto what policies give them at the embedded broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from broker_dialog import Dialog
from device_server import Farm, farm
from servers import Mosquitto, mosquitto
from skerry_adapters.broker.packets import Publish, Reason
from skerry_adapters.sources import DEFAULT_SOURCES
from skerry_registry.cli.commands import app
from skerry_registry.cli.mqtt import NoJournal, acl_of
from skerry_registry.settings import Settings

NO = Reason.NOT_AUTHORIZED
USERS = ("device", "owner", "reader", "other")


async def things(server: Farm) -> None:
    everything = {"thing:/": "READ WRITE", "message:/": "READ WRITE"}
    await server.policy(
        "x:p", owner=everything, reader={"thing:/": "READ"}, device={"thing:/features/scada": "READ WRITE"}
    )
    await server.policy("y:p", owner=everything, other={"thing:/features": "WRITE"})
    for name in ("T1", "T2"):
        await server.thing(f"x:{name}", "x:p", features={"scada": {}, "gear": {}})
    await server.thing("y:T1", "y:p")


def test_a_folder_without_things_is_refused(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["mqtt", "acl", "--data-dir", str(tmp_path)]).exception.__class__ is NoJournal


async def test_the_lines_say_what_policies_say(tmp_path: Path) -> None:
    async with farm(tmp_path, users=USERS) as server:
        await things(server)
        settings = Settings(data_dir=str(tmp_path), mqtt_username="skerry")
        beside = await asyncio.to_thread(acl_of, settings)
    out = tmp_path / "acl"
    given = ["mqtt", "acl", "--data-dir", str(tmp_path), "--out", str(out)]
    assert CliRunner().invoke(app, given, env={"SKERRY_MQTT_USERNAME": "skerry"}).exit_code == 0
    assert out.read_text() == beside
    found = {
        block.split("\n")[0]: block.split("\n")[1:-1]
        for block in (beside + "\n").replace("\n\n", "\n").split("user ")[1:]
    }
    assert found == {
        "boss": ["topic readwrite #"],
        "device": ["topic write telemetry/x/T1/scada", "topic write telemetry/x/T2/scada"],
        "other": ["topic write telemetry/y/T1/+"],
        "owner": [
            *("topic read device/x/+/#", "topic write ditto/x/+/#", "topic write telemetry/x/+/+"),
            *("topic read device/y/T1/#", "topic write ditto/y/T1/#", "topic write telemetry/y/T1/+"),
        ],
        "reader": ["topic read device/x/+/#", "topic deny device/x/T1/live", "topic deny device/x/T2/live"],
        "skerry": [
            *(f"topic read {topic}" for source in DEFAULT_SOURCES for topic in source.filters),
            *("topic write device/#", "topic read device/+/+/desired"),
        ],
    }


async def login(broker: Mosquitto, user: str) -> Dialog:
    return await Dialog.open(broker, user, login=False, username=user, password=user.encode())  # type: ignore[arg-type] # any broker has a port


async def test_mosquitto_lets_pass_what_the_lines_allow_and_nothing_else(tmp_path: Path) -> None:
    async with farm(tmp_path, users=USERS) as server:
        await things(server)
        acl = tmp_path / "acl"
        acl.write_text(await asyncio.to_thread(acl_of, Settings(data_dir=str(tmp_path), mqtt_username="skerry")))
    acl.chmod(0o600)
    with mosquitto(tmp_path, users={name: name for name in (*USERS, "skerry")}, settings=[f"acl_file {acl}"]) as broker:
        taker, reader, other = [await login(broker, name) for name in ("skerry", "reader", "other")]
        for topic in ("telemetry/+/+/+", "ditto/#"):
            assert await taker.subscribe(topic) == 1
        for dialog in (reader, other):
            assert await dialog.subscribe("device/x/T1/#") in {1, NO}
        passed: list[str] = []
        for user, topics in (
            ("device", ("telemetry/x/T1/scada", "telemetry/x/T1/gear", "telemetry/y/T1/scada", "ditto/x/T1")),
            ("owner", ("telemetry/x/T2/new", "ditto/x/T1/any", "device/x/T1/go", "elsewhere")),
        ):
            dialog = await login(broker, user)
            passed += [f"{user} {topic}" for topic in topics if await dialog.publish(topic, b"{}") != NO]
            await dialog.close()
        assert passed == ["device telemetry/x/T1/scada", "owner telemetry/x/T2/new", "owner ditto/x/T1/any"]
        assert [(await taker.expect(Publish)).topic for _ in passed] == [one.split()[1] for one in passed]
        taker.send(Publish("device/x/T1/live", b"for those who may read messages", 0))
        taker.send(Publish("device/x/T1/go", b"go", 0))
        assert (await reader.expect(Publish)).payload == b"go"
        await other.silent()
        for dialog in (taker, reader, other):
            await dialog.close()
