"""API tokens as passwords of MQTT clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker_dialog import Dialog, clock
from device_server import Farm, farm
from skerry_adapters.broker.packets import Disconnect
from skerry_registry.identities.tokens import ApiTokens

WRITES = {"thing:/features/scada": "WRITE"}


async def thing(server: Farm) -> None:
    await server.policy("x:P", device=WRITES)
    await server.thing("x:T1", "x:P", features={"scada": {"properties": {}}})


@pytest.mark.parametrize("user", ["anybody", "device"])
async def test_a_device_with_a_token_acts_as_its_subjects_whatever_its_name(tmp_path: Path, user: str) -> None:
    async with farm(tmp_path) as server:
        await thing(server)
        tokens = ApiTokens(tmp_path / "tokens.json", clock)
        good, other = tokens.create(["nginx:device"]), tokens.create(["integration:other"])
        for token, power in ((other, 8), (good, 9)):
            client = await Dialog.open(server.broker, "c", login=False, username=user, password=token.encode())
            await client.publish("telemetry/x/T1/scada", b'{"power":%d}' % power)
            await client.close()
        assert await server.read("x:T1", "features", "scada", "properties", "power") == 9


async def test_a_token_that_is_revoked_ends_the_connections_that_it_opened(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await thing(server)
        tokens = ApiTokens(tmp_path / "tokens.json", clock)
        token = tokens.create(["nginx:device"])
        device = await Dialog.open(server.broker, "c", login=False, username="any", password=token.encode())
        assert await device.publish("telemetry/x/T1/scada", b'{"power":1}') == 0
        tokens.revoke(token)
        assert isinstance(await device.receive(), Disconnect)
        assert await device.receive() is None
        await device.close()
