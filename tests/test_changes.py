"""Changes as they are told to subscribers: to whom, what of them, in which order, and from where on."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from registry_door import ANNE, put, serving
from skerry_registry.live.acks import Acks
from skerry_registry.live.changes import Changes, Told, Wanted


class Listener:
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def take(self, told: Told) -> None:
        self.told.append(told)

    @property
    def changes(self) -> list[tuple[str, Any]]:
        """Topic action with path, and value."""
        return [
            (f"{told.event.action} /{'/'.join(told.event.path)}", None if told.value is UNSET else told.value)
            for told in self.told
        ]

    @property
    def envelopes(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(told.text) for told in self.told]


async def test_a_subscriber_is_told_each_change_with_its_number():
    async with serving() as registry:
        changes, anne = Changes(registry, Acks()), Listener()
        leave = changes.subscribe(Wanted(subjects=ANNE), anne.take)
        await registry.handle(put({"attributes": {"a": 1}}))
        await registry.handle(put(2, "attributes", "a"))
        leave()
        leave()
        await registry.handle(put(3, "attributes", "a"))
        assert [one["topic"].rsplit("/", 1)[1] for one in anne.envelopes] == ["created", "modified"]
        assert [one["headers"]["skerry-number"] for one in anne.envelopes] == [2, 3]
        assert anne.envelopes[1]["path"] == "/attributes/a"
        assert anne.envelopes[1]["value"] == 2
