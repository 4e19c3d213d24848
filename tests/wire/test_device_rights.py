"""Devices at the embedded broker act as themselves: policies say what they may publish and get, also while they are connected."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker_dialog import Dialog, clock, until
from device_server import Farm, farm
from skerry.signals import Command
from skerry_adapters.broker.packets import V5, V311, Disconnect, Publish, Pubrec, Reason, Will

NO = Reason.NOT_AUTHORIZED
ENVELOPE = b'{"topic":"%s/things/twin/commands/modify","path":"%s","value":%s}'
WRITES_SCADA = {"thing:/features/scada": "READ WRITE"}


async def one_thing(farm: Farm, **entries: dict[str, str]) -> None:
    await farm.policy("x:p", **entries)
    await farm.thing("x:T1", "x:p", features={"scada": {"properties": {}}})


async def test_a_device_publishes_telemetry_of_the_features_it_may_write(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=WRITES_SCADA)
        device, other = await server.connect("device"), await server.connect("other")
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        assert await device.publish("telemetry/x/T1/gear", b'{"power":2}') == NO
        assert await other.publish("telemetry/x/T1/scada", b'{"power":3}') == NO
        assert await server.read("x:T1", "features") == {"scada": {"properties": {"power": 1}}}
        assert server.letters.count() == 0
        assert server.broker.status().refused == 2
        assert [(r.action, r.user, r.subjects, r.client, r.address, r.topic) for r in server.refusals] == [
            ("publish", "device", ("nginx:device",), "device-1", "127.0.0.1", "telemetry/x/T1/gear"),
            ("publish", "other", ("nginx:other",), "other-1", "127.0.0.1", "telemetry/x/T1/scada"),
        ]
        await device.close()
        await other.close()


async def test_a_right_on_one_property_lets_that_property_in_and_no_other(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/features/scada/properties/power": "WRITE"})
        device = await server.connect("device")
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        assert await device.publish("telemetry/x/T1/scada", b'{"wind":2}') == 0
        assert await server.read("x:T1", "features", "scada", "properties") == {"power": 1}
        assert [letter.code for letter in server.letters.list()] == ["things:thing.notmodifiable"]
        await device.close()


async def test_an_old_client_has_its_refused_message_acknowledged_and_is_told_of_a_refused_filter(
    tmp_path: Path,
) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server)
        device = await server.connect("device", version=V311)
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        assert await device.subscribe("device/x/T1/#") == 0x80
        assert await server.read("x:T1", "features", "scada", "properties") == {}
        assert [refusal.action for refusal in server.refusals] == ["publish", "subscribe"]
        await device.close()


async def test_envelopes_are_let_in_where_the_device_may_write_any_part_of_the_thing(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/attributes/a": "WRITE"})
        device, other = await server.connect("device"), await server.connect("other")
        assert await device.publish("ditto/x/T1/any", ENVELOPE % (b"x/T1", b"/attributes/a", b"1")) == 0
        assert await device.publish("ditto/x/T1", ENVELOPE % (b"x/T1", b"/attributes/b", b"1")) == 0
        assert await other.publish("ditto/x/T1", ENVELOPE % (b"x/T1", b"/attributes/a", b"2")) == NO
        assert await server.read("x:T1", "attributes") == {"a": 1}
        assert [letter.code for letter in server.letters.list()] == ["things:attribute.notmodifiable"]
        assert server.letters.list()[0].subjects == ("nginx:device",)
        for topic in ("ditto/x", "ditto", "ditto/#bad/T1".replace("#", "~"), "elsewhere/x/T1", "device/x/T1/go"):
            assert await device.publish(topic, b"{}") == NO
        await device.close()
        await other.close()


async def test_a_device_makes_its_thing_over_mqtt_and_speaks_for_it_at_once(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        device, other = await server.connect("device"), await server.connect("other")
        device.send(
            Publish("ditto/x/new", ENVELOPE % (b"x/new", b"/", b"{}"), 1, mid=1),
            Publish("telemetry/x/new/scada", b'{"power":5}', 1, mid=2),
        )
        for _ in range(2):
            await device.receive()
        assert await other.publish("telemetry/x/new/scada", b'{"power":6}') == NO
        found = Command(verb="retrieve", id="x:new", subjects=("nginx:device",), path=("features",))
        assert await server.do(found) == {"scada": {"properties": {"power": 5}}}
        assert await other.publish("telemetry/x/absent/scada", b'{"power":6}') == 0
        assert [letter.code for letter in server.letters.list()] == ["things:thing.notfound"]
        await device.close()
        await other.close()


async def test_a_filter_must_be_covered_for_every_topic_that_it_takes(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/": "READ"}, other={"thing:/features": "READ"})
        device, other, boss = [await server.connect(name) for name in ("device", "other", "boss")]
        for wanted in ("device/x/T1/#", "device/x/T1", "device/x/T1/+/now", "$share/g/device/x/T1/#"):
            assert await device.subscribe(wanted) == 1
            assert await other.subscribe(wanted) == NO
        for unwanted in (
            *("#", "+/x/T1/#", "device/#", "device/+/T1/#", "device/x/+/#", "device/x/#", "device/x", "device/x/T2/#"),
            *("telemetry/x/T1/scada", "telemetry/#", "ditto/x/T1", "$SYS/#", "$share/g/#", "other/x/T1"),
        ):
            assert await device.subscribe(unwanted) == NO
        assert await boss.publish("anything", b"1") == 0
        for wanted in ("#", "device/x/+/#", "telemetry/#"):
            assert await boss.subscribe(wanted) == 1
        for dialog in (device, other, boss):
            await dialog.close()


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_policy_change_ends_and_renews_what_open_subscriptions_get(tmp_path: Path, qos: int) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/": "READ"})
        device = await server.connect("device")
        assert await device.subscribe("device/x/T1/#", qos) == qos
        await server.broker.publish("device/x/T1/go", b"one", qos)
        assert (await device.expect(Publish)).payload == b"one"
        await server.policy("x:p")
        await server.broker.publish("device/x/T1/go", b"two", qos)
        await device.silent()
        await server.policy("x:p", device={"thing:/": "READ"})
        await server.broker.publish("device/x/T1/go", b"three", qos)
        assert (await device.expect(Publish)).payload == b"three"
        await server.do(Command(verb="delete", id="x:T1", subjects=("nginx:admin",)))
        await server.broker.publish("device/x/T1/go", b"four", qos)
        await device.silent()
        await device.close()


async def test_what_waited_for_an_absent_device_is_given_up_when_it_may_not_read_it_any_more(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/": "READ"})
        keep = {"session_expiry_interval": 600}
        device = await server.connect("device", properties=keep)
        assert await device.subscribe("device/x/T1/#") == 1
        await device.close()
        await until(lambda: not server.broker.status().connections, "the device to be gone")
        await server.broker.publish("device/x/T1/go", b"secret", 1)
        assert server.broker.status().queued == 1
        await server.policy("x:p")
    async with farm(tmp_path) as server:
        device = await server.connect("device", clean=False, properties=keep)
        assert device.connack.present
        await device.silent()
        assert server.broker.status().queued == 0
        await device.close()


async def test_a_policy_change_refuses_the_next_message_of_an_open_connection(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=WRITES_SCADA)
        device = await server.connect("device")
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        await server.policy("x:p")
        assert await device.publish("telemetry/x/T1/scada", b'{"power":2}') == NO
        device.send(Publish("telemetry/x/T1/scada", b'{"power":2}', 2, mid=7))
        assert (await device.expect(Pubrec)).reason == NO
        await server.policy("x:p2", device=WRITES_SCADA)
        moving = Command(verb="modify", id="x:T1", subjects=("nginx:admin",), path=("policyId",), value="x:p2")
        await server.do(moving)
        assert await device.publish("telemetry/x/T1/scada", b'{"power":3}') == 0
        await device.close()


async def test_rights_end_with_the_time_of_their_subject(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={**WRITES_SCADA, "thing:/": "READ"})
        await server.expire("x:p", "device", 2)
        device = await server.connect("device")
        assert await device.subscribe("device/x/T1/#", 0) == 0
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        async with asyncio.timeout(20):
            while await device.publish("telemetry/x/T1/scada", b'{"power":2}') == 0:  # noqa: ASYNC110 - the clock is the event
                await asyncio.sleep(0.05)
        await server.broker.publish("device/x/T1/go", b"late")
        await device.silent()
        await device.close()


async def test_an_imported_policy_that_changes_counts_at_once(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:template", device=WRITES_SCADA)
        await one_thing(server)
        imports = Command(
            verb="modify",
            kind="policy",
            id="x:p",
            subjects=("nginx:admin",),
            path=("imports", "x:template"),
            value={"entries": ["device"]},
        )
        await server.do(imports)
        device = await server.connect("device")
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        await server.policy("x:template")
        assert await device.publish("telemetry/x/T1/scada", b'{"power":2}') == NO
        await device.close()


async def test_rights_that_are_not_in_memory_are_looked_up_in_the_order_of_the_messages(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={**WRITES_SCADA, "thing:/": "READ"})
        await server.policy("y:p")
        await server.thing("y:T1", "y:p")
    async with farm(tmp_path) as server:
        device = await server.connect("device")
        device.send(
            Publish("telemetry/x/T1/scada", b'{"power":1}', 1, mid=1),
            Publish("telemetry/y/T1/scada", b'{"power":1}', 1, mid=2),
            Publish("telemetry/x/T1/scada", b'{"power":2}', 1, mid=3),
        )
        reasons = [(packet.mid, packet.reason) for packet in [await device.receive() for _ in range(3)]]  # type: ignore[union-attr]
        assert reasons == [(1, 0), (2, NO), (3, 0)]
        assert await server.read("x:T1", "features", "scada", "properties") == {"power": 2}
        assert server.letters.count() == 0
        await device.close()
    async with farm(tmp_path) as server:
        device = await server.connect("device")
        assert await device.subscribe("device/y/T1/#") == NO
        assert await device.subscribe("device/x/T1/#") == 1
        await device.close()


async def test_retained_messages_and_wills_go_by_the_same_rights(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={**WRITES_SCADA, "thing:/": "READ"})
        await server.broker.publish("device/x/T1/go", b"kept", 1, retain=True)
        device, other = await server.connect("device"), await server.connect("other")
        assert await other.publish("telemetry/x/T1/scada", b'{"power":1}', retain=True) == NO
        assert server.broker.status().retained == 1
        assert await device.subscribe("device/x/T1/#") == 1
        assert (await device.expect(Publish)).payload == b"kept"
        await other.close()
        before = server.registry.journal.last
        for user, power in (("other", b"8"), ("device", b"9")):
            will = Will("telemetry/x/T1/scada", b'{"power":%s}' % power, 1, retain=False)
            client = await server.connect(user, "last", will=will)
            await client.close()
        await until(lambda: server.broker.status().connections == 1, "the clients to be gone")
        await until(lambda: len(server.refusals) == 2, "the refused will")
        await until(lambda: server.registry.journal.last > before, "the will of the device")
        assert await server.read("x:T1", "features", "scada", "properties", "power") == 9
        await device.close()


async def test_one_device_does_not_take_all_the_room_for_retained_messages(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=WRITES_SCADA)
        device, other = await server.connect("device"), await server.connect("other")
        share = 10_000 // 20
        for number in range(share + 2):
            assert await device.publish(f"telemetry/x/made-up-{number}/scada", b'{"power":1}', retain=True) == 0
        assert server.broker.status().retained == share
        assert await device.publish("telemetry/x/made-up-0/scada", b"", retain=True) == 0
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}', retain=True) == 0
        assert await other.publish("telemetry/x/another/scada", b'{"power":1}', retain=True) == 0
        await server.broker.publish("device/x/T1/go", b"kept", 1, retain=True)
        assert server.broker.status().retained == share + 2
        await device.close()
        await other.close()


async def ends(dialog: Dialog) -> int | None:
    """The reason with which the server closes the connection."""
    packet = await dialog.receive()
    reason = packet.reason if isinstance(packet, Disconnect) else None
    assert await dialog.receive() is None
    return reason


@pytest.mark.parametrize("change", ["password", "removed", "subjects"])
async def test_a_login_that_is_over_ends_its_connections_without_their_wills(tmp_path: Path, change: str) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=WRITES_SCADA)
        will = Will("telemetry/x/T1/scada", b'{"power":9}', 1, retain=False)
        device, other = await server.connect("device", will=will), await server.connect("other")
        if change == "password":
            server.users.add("device", "new")
        elif change == "subjects":
            server.users.add("device", "device", subjects=["nginx:somebody"])
        else:
            server.users.remove("device")
        assert await ends(device) == NO
        assert await other.publish("telemetry/x/T1/scada", b'{"power":1}') == NO
        assert await server.read("x:T1", "features", "scada", "properties") == {}
        await device.close()
        await other.close()


@pytest.mark.parametrize("change", ["revoked", "expired"])
async def test_a_token_that_is_no_good_any_more_ends_its_connections(tmp_path: Path, change: str) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=WRITES_SCADA)
        expires = clock() + 1_500_000 if change == "expired" else None
        token = server.tokens.create(["nginx:device"], expires=expires)
        lasting = server.tokens.create(["nginx:device"])
        first, second = [
            await Dialog.open(server.broker, "same", login=False, username="any", password=text.encode())
            for text in (token, lasting)
        ]
        for dialog in (first, second):  # the same user name and client id, but sessions of their own
            assert await dialog.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        if change == "revoked":
            server.tokens.revoke(token)
        assert await ends(first) == NO
        assert await second.publish("telemetry/x/T1/scada", b'{"power":2}') == 0
        for dialog in (first, second):
            await dialog.close()


@pytest.mark.parametrize("version", [V311, V5])
async def test_members_of_a_share_who_may_not_read_take_nothing_from_the_others(tmp_path: Path, version: int) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/": "READ"}, other={"thing:/": "READ"})
        device, other = [await server.connect(name, version=version) for name in ("device", "other")]
        for dialog in (device, other):
            assert await dialog.subscribe("$share/g/device/x/T1/#") == 1
        await server.policy("x:p", device={"thing:/": "READ"})
        for number in range(3):
            await server.broker.publish("device/x/T1/go", b"%d" % number, 1)
        assert [(await device.expect(Publish)).payload for _ in range(3)] == [b"0", b"1", b"2"]
        await other.silent()
        await device.close()
        await other.close()
