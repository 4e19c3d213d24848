"""A shared subscription passes over members who are away."""

from __future__ import annotations

from broker_dialog import Dialog, serving
from skerry_adapters.broker.packets import Disconnect, Puback, Publish

LONG = {"session_expiry_interval": 3600}


async def test_while_a_member_is_connected_the_absent_ones_get_nothing() -> None:
    async with serving() as broker:
        away = await Dialog.open(broker, "away", clean=False, properties=LONG)
        here = await Dialog.open(broker, "here")
        for member in (away, here):
            await member.subscribe("$share/g/a")
        away.send(Disconnect())
        assert await away.receive() is None
        await away.close()
        for number in range(6):
            await broker.publish("a", b"%d" % number, 1)
            got = await here.expect(Publish)
            here.send(Puback(got.mid))
            assert got.payload == b"%d" % number
        back = await Dialog.open(broker, "away", clean=False, properties=LONG)
        assert back.connack.present
        await back.silent()
        await back.close()
        await here.close()
