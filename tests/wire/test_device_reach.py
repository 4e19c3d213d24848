"""What devices at the embedded broker may not reach, whatever policies say, and what their dead letters tell them."""

from __future__ import annotations

from pathlib import Path

from device_server import Farm, farm
from skerry_adapters.broker.packets import Reason
from skerry_registry.identities.namespaces import NamespaceRule

NO = Reason.NOT_AUTHORIZED
ENVELOPE = b'{"topic":"%s/T1/things/twin/commands/modify","path":"/attributes/a","value":1}'
OPEN = (NamespaceRule(allowed_namespaces=("open",)),)


async def two_things(server: Farm) -> None:
    """One in a namespace that is open, one in a closed one; the device may write and read both."""
    for namespace in ("open", "shut"):
        await server.policy(f"{namespace}:p", device={"thing:/": "READ WRITE"}, boss={"thing:/": "READ WRITE"})
        await server.thing(f"{namespace}:T1", f"{namespace}:p", features={"scada": {"properties": {}}})


async def test_a_device_neither_publishes_to_a_closed_namespace_nor_gets_anything_of_it(tmp_path: Path) -> None:
    async with farm(tmp_path, namespaces=OPEN) as server:
        await two_things(server)
        device = await server.connect("device")
        assert await device.publish("telemetry/open/T1/scada", b'{"power":1}') == 0
        assert await device.publish("telemetry/shut/T1/scada", b'{"power":2}') == NO
        assert await device.publish("ditto/shut/T1", ENVELOPE % b"shut") == NO
        assert await device.subscribe("device/open/T1/#") == 1
        assert await device.subscribe("device/shut/T1/#") == NO
        assert [refusal.topic for refusal in server.refusals] == [
            "telemetry/shut/T1/scada",
            "ditto/shut/T1",
            "device/shut/T1/#",
        ]
        assert await server.read("open:T1", "features", "scada", "properties") == {"power": 1}
        await device.close()


async def test_an_envelope_stays_within_reach_whatever_its_topic(tmp_path: Path) -> None:
    async with farm(tmp_path, namespaces=OPEN, users=("device",)) as server:
        await two_things(server)
        device, boss = await server.connect("device"), await server.connect("boss")
        assert await device.publish("ditto/open/T1", ENVELOPE % b"shut") == 0
        assert await boss.publish("ditto/shut/T1", ENVELOPE % b"shut") == 0
        copying = b'{"topic":"open/T2/things/twin/commands/create","path":"/","value":{"_copyPolicyFrom":"shut:p"}}'
        assert await device.publish("ditto/open/T2", copying) == 0
        assert [letter.code for letter in server.letters.list()] == ["gateway:namespace.notaccessible"] * 3
        assert await device.publish("ditto/open/T1", ENVELOPE % b"open") == 0
        assert await server.read("open:T1", "attributes") == {"a": 1}
        await device.close()
        await boss.close()


async def test_a_dead_letter_says_why_where_the_device_may_read_the_policy(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        power = "thing:/features/scada/properties/power"
        await server.policy("x:p", device={power: "WRITE", "policy:/": "READ"}, other={power: "WRITE"})
        await server.thing("x:T1", "x:p", features={"scada": {"properties": {}}})
        for user in ("device", "other"):
            client = await server.connect(user)
            assert await client.publish("telemetry/x/T1/scada", b'{"wind":2}') == 0
            await client.close()
        of_other, of_device = server.letters.list()
        assert of_device.code == of_other.code == "things:thing.notmodifiable"
        wind = {"resource": "thing:/features/scada/properties/wind", "permission": "WRITE"}
        assert of_device.reason["why"]["missing"] == [wind]
        assert "why" not in of_other.reason
