"""A will has the rights of its owner, asked for when it is published."""

from __future__ import annotations

import pytest

from broker_dialog import Asked, Dialog, Taker, serving, until
from skerry_adapters.broker.packets import V5, V311, Will


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_will_that_its_owner_might_not_publish_is_refused(version: int) -> None:
    take = Taker()

    def may(subjects: tuple[str, ...], action: str, topic: str) -> bool:
        return subjects == ("nginx:ada",) and action == "publish" and topic == "mine"

    async with serving(take=take, rights=Asked(may)) as broker:
        for topic in ("secret", "$SYS/secret", "mine"):
            client = await Dialog.open(broker, topic, version=version, will=Will(topic, b"lost", 1, retain=True))
            await client.close()
            await until(lambda: not broker.status().connections, "the client to be gone")
        await until(lambda: bool(take.messages), "the will that is allowed")
        assert broker.status().refused == 2
        assert broker.status().retained == 1
    assert [m.topic for m in take.messages] == ["mine"]
