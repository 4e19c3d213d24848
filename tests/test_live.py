"""The live channel: who may send, who is handed what, and whose answer counts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count

import pytest
from msgspec import UNSET

from registry_door import ANNE, BOB, T1, delete, put, put_policy
from skerry import fields
from skerry.errors import SkerryError
from skerry.live import LiveSignal, envelope_of, signal_from
from skerry.protocol import Ack
from skerry_registry.lateness import CommandTimeout
from skerry_registry.live import event_filter
from skerry_registry.live.channel import Live, LiveWanted, MessageTooLarge, labels_of
from skerry_registry.live.questions import TooManyWaiting
from skerry_registry.live.sender import Sender
from skerry_registry.live.streams import Streams
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

DEVICE = ("device:T1",)
EVE = ("nginx:eve",)
READ, WRITE = {"grant": ["READ"], "revoke": []}, {"grant": ["WRITE"], "revoke": []}
ALL = {"grant": ["READ", "WRITE"], "revoke": []}
HIDDEN = {"grant": [], "revoke": ["READ"]}
LATE = 20.0
ENTRIES = {
    "owner": {
        "subjects": {ANNE[0]: {"type": "x"}},
        "resources": {"thing:/": ALL, "policy:/": ALL, "message:/": ALL},
    },
    "device": {
        "subjects": {DEVICE[0]: {"type": "x"}},
        "resources": {
            "thing:/": ALL,
            "message:/inbox": READ,
            "message:/features": READ,
            "thing:/attributes/secret": HIDDEN,
        },
    },
    "sender": {
        "subjects": {BOB[0]: {"type": "x"}},
        "resources": {"message:/inbox/messages/ask": WRITE, "thing:/attributes/public": READ},
    },
}
anne, bob = Sender(subjects=ANNE, origin="http a"), Sender(subjects=BOB, origin="http b")
device, eve = Sender(subjects=DEVICE, origin="ws d 1"), Sender(subjects=EVE, origin="ws e 1")


class Heard(list[LiveSignal]):
    """What somebody was handed."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Event()

    def take(self, signal: LiveSignal) -> None:
        self.append(signal)
        self._came.set()

    async def until(self, number: int) -> None:
        """Wait for so many signals."""
        async with asyncio.timeout(LATE):
            while len(self) < number:
                self._came.clear()
                await self._came.wait()


class House:
    """A registry with a thing, and what happens on its live channel."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.streams = Streams.of(registry)
        self.live = self.streams.live
        self.refused: list[str] = []
        registry.on_refused(lambda command, error: self.refused.append(f"{command.verb} {error.code}"))

    def hears(self, sort="message", subjects=DEVICE, session="", **more) -> Heard:
        """What a new subscriber is handed."""
        heard = Heard()
        self.live.subscribe(LiveWanted(sort=sort, subjects=subjects, **more), heard.take, session=session)
        return heard

    def echoes(self, sort="message", status=200, value="pong", sender=device, **more) -> list[LiveSignal]:
        """As `hears`, of somebody who answers at once."""
        heard: list[LiveSignal] = []

        def take(signal: LiveSignal) -> None:
            heard.append(signal)
            envelope = envelope_of(signal) | {"status": status, "headers": {"correlation-id": signal.correlation}}
            envelope.pop("value", None)
            envelope["headers"]["content-type"] = "text/plain"
            if value is not UNSET:
                envelope["value"] = value
            envelope |= more
            assert self.live.answer(signal_from(envelope), sender)

        self.live.subscribe(LiveWanted(sort=sort, subjects=DEVICE), take, session=device.origin)
        return heard


@asynccontextmanager
async def house(**settings):
    ticks, ids = count(1_000_000), count(1)
    async with Registry(MemoryStore(), lambda: next(ticks), lambda: f"id{next(ids)}", **settings) as registry:
        await registry.handle(put_policy("demo:P", ENTRIES))
        thing = {
            "policyId": "demo:P",
            "attributes": {"public": 1, "secret": 2},
            "features": {"f": {"properties": {"x": 1}}},
        }
        await registry.handle(put(thing))
        yield House(registry)


def message(subject="ask", value="ping", feature=None, box="inbox", **headers) -> LiveSignal:
    where = f"/features/{feature}" if feature else ""
    return signal_from(
        {
            "topic": f"demo/T1/things/live/messages/{subject}",
            "path": f"{where}/{box}/messages/{subject}",
            "headers": {"correlation-id": "c1", "content-type": "text/plain", **headers},
            "value": value,
        }
    )


def command(verb, path="/", value=UNSET, **headers) -> LiveSignal:
    envelope = {
        "topic": f"demo/T1/things/live/commands/{verb}",
        "path": path,
        "headers": {"correlation-id": "c1", **headers},
    }
    return signal_from(envelope if value is UNSET else {**envelope, "value": value})


async def test_an_answer_comes_before_what_is_sent_after_it():
    async with house() as here:
        asked, told = here.hears("command"), here.hears("event", ANNE)
        came: list[str] = []

        async def ask() -> None:
            await here.live.send(command("modify", "/attributes/public", 5), anne, seconds=LATE)
            came.append(f"answer, {len(told)} events")

        asking = asyncio.create_task(ask())
        await asked.until(1)
        answer = envelope_of(asked[0]) | {"status": 204}
        event = answer | {"topic": "demo/T1/things/live/events/modified", "revision": 1}
        for name in ("status", "headers"):
            event.pop(name)
        assert here.live.answer(signal_from(answer), device)
        await here.live.send(signal_from(event | {"headers": {}}), device, seconds=0)
        await asking
        assert came == ["answer, 0 events"]
        assert len(told) == 1


async def test_a_message_reaches_who_may_read_it_and_the_first_answer_comes_back():
    async with house() as there:
        heard, others = there.echoes(), there.hears(subjects=EVE)
        outcome = await there.live.send(message(timeout="10s", **{"if-match": "x"}), anne, seconds=LATE)
        answer = outcome.answer
        assert answer is not None
        assert (answer.status, answer.value, answer.correlation) == (200, "pong", "c1")
        assert answer.headers["ditto-originator"] == DEVICE[0]
        assert others == []
        assert envelope_of(heard[0])["headers"] == {
            "correlation-id": "c1",
            "content-type": "text/plain",
            "timeout": "10s",
            "channel": "live",
            "response-required": True,
            "ditto-originator": ANNE[0],
            "ditto-message-direction": "TO",
            "ditto-message-subject": "ask",
            "ditto-message-thing-id": T1,
        }


async def test_nobody_hears_what_he_sends_himself():
    async with house() as there:
        own, other = there.hears(subjects=ANNE, session="ws a 1"), there.hears(subjects=ANNE, session="ws a 2")
        await there.live.send(message(), Sender(subjects=ANNE, origin="ws a 1"), seconds=0)
        assert (len(own), len(other)) == (0, 1)


@pytest.mark.parametrize(
    ("signal", "sender", "code"),
    [
        (message("other"), bob, "messages:send.notallowed"),
        (message(feature="f"), bob, "messages:send.notallowed"),
        (message(), eve, "messages:send.notallowed"),
        (command("retrieve", "/attributes/secret"), bob, "things:attribute.notfound"),
        (command("retrieve"), eve, "things:thing.notfound"),
        (command("modify", "/attributes/public", 2), bob, "things:attribute.notmodifiable"),
        (command("merge", "/", {"attributes": {"public": 2}}), bob, "things:thing.notmodifiable"),
        (command("delete", "/"), bob, "things:thing.notdeletable"),
    ],
)
async def test_who_lacks_the_right_is_refused_and_that_is_noted(signal, sender, code):
    async with house() as there:
        heard = there.hears(signal.sort)
        with pytest.raises(SkerryError) as caught:
            await there.live.send(signal, sender, seconds=0)
        assert caught.value.code == code
        assert heard == []
        if caught.value.status == 403 or code == "things:thing.notfound":
            verb = signal.action if signal.sort == "command" else "send"
            assert there.refused == [f"{verb} {code}"]


async def test_a_refusal_says_why_to_who_may_read_the_policy():
    async with house() as there:
        entries = ENTRIES | {
            "owner": {
                **ENTRIES["owner"],
                "resources": {**ENTRIES["owner"]["resources"], "message:/outbox": {"grant": [], "revoke": ["WRITE"]}},
            }
        }
        await there.registry.handle(put_policy("demo:P", entries))
        with pytest.raises(SkerryError) as caught:
            await there.live.send(message(box="outbox"), anne, seconds=0)
        why = caught.value.payload()["why"]
        assert [rule.resource for rule in why.decided_by] == ["message:/outbox"]
        with pytest.raises(SkerryError) as caught:
            await there.live.send(message(), eve, seconds=0)
        assert "why" not in caught.value.payload()


async def test_a_thing_that_is_not_there_has_no_inbox():
    async with house() as there:
        await there.registry.handle(delete())
        for signal in (message(), message("claim")):
            with pytest.raises(SkerryError, match="demo:T1"):
                await there.live.send(signal, anne, seconds=0)


async def test_a_claim_takes_no_right_to_send():
    async with house() as there:
        there.echoes(value="yours")
        outcome = await there.live.send(message("claim"), eve, seconds=LATE)
        assert outcome.answer is not None
        assert outcome.answer.value == "yours"


async def test_who_waits_too_long_is_told_so():
    async with house() as there:
        there.hears()
        with pytest.raises(CommandTimeout):
            await there.live.send(message(), anne, seconds=0.001)
        assert not there.live.answer(signal_from(envelope_of(message()) | {"status": 200}), device)


async def test_only_the_first_answer_counts_and_only_of_who_could_have_the_question():
    async with house() as there:
        heard = there.hears(session=device.origin)
        asking = asyncio.ensure_future(there.live.send(message(), anne, seconds=LATE))
        await heard.until(1)
        reply = envelope_of(heard[0]) | {"status": 200, "value": "one"}
        assert not there.live.answer(signal_from(reply), eve)
        assert not there.live.answer(signal_from(reply | {"topic": "demo/T2/things/live/messages/ask"}), device)
        assert not there.live.answer(signal_from(reply | {"headers": {"correlation-id": "other"}}), device)
        assert there.live.answer(signal_from(reply), Sender(subjects=DEVICE, origin="mqtt d"))
        assert not there.live.answer(signal_from(reply | {"value": "two"}), device)
        answer = (await asking).answer
        assert answer is not None
        assert answer.value == "one"


async def test_two_questions_with_one_correlation_id_get_their_own_answers():
    async with house() as there:
        heard = there.hears(session=device.origin)
        first = asyncio.ensure_future(there.live.send(message(value="1"), anne, seconds=LATE))
        second = asyncio.ensure_future(there.live.send(message(value="2"), anne, seconds=LATE))
        await heard.until(2)
        assert heard[0].correlation != heard[1].correlation
        for signal in reversed(heard):
            assert there.live.answer(signal_from(envelope_of(signal) | {"status": 200}), device)
        outcomes = [await first, await second]
        assert [o.answer and (o.answer.value, o.answer.correlation) for o in outcomes] == [("1", "c1"), ("2", "c1")]


async def test_an_asker_is_answered_with_what_he_may_read():
    async with house() as there:
        there.echoes("command", value={"public": 7, "secret": 8})
        outcome = await there.live.send(command("retrieve", "/attributes"), bob, seconds=LATE)
        assert outcome.answer is not None
        assert outcome.answer.value == {"public": 7}
        outcome = await there.live.send(command("retrieve", "/attributes"), anne, seconds=LATE)
        assert outcome.answer is not None
        assert outcome.answer.value == {"public": 7, "secret": 8}


async def test_a_thing_as_a_device_tells_it_keeps_its_id():
    async with house() as there:
        there.echoes("command", value={"thingId": T1, "attributes": {"secret": 8}})
        outcome = await there.live.send(command("retrieve"), bob, seconds=LATE)
        assert outcome.answer is not None
        assert outcome.answer.value == {"thingId": T1}


async def test_an_answer_to_a_question_has_a_value():
    async with house() as there:
        heard = there.hears("command", session=device.origin)
        asking = asyncio.ensure_future(there.live.send(command("retrieve", "/attributes"), anne, seconds=LATE))
        await heard.until(1)
        with pytest.raises(SkerryError) as caught:
            there.live.answer(signal_from(envelope_of(heard[0]) | {"status": 204}), device)
        assert caught.value.code == "protocoladapter:illegal.adaptable"
        error = {"status": 404, "error": "things:attributes.notfound", "message": "none"}
        topic = "demo/T1/things/live/errors"
        reply = {"topic": topic, "path": "/", "status": 404, "value": error, "headers": {"correlation-id": "c1"}}
        assert there.live.answer(signal_from(reply), device)
        answer = (await asking).answer
        assert answer is not None
        assert (answer.status, answer.topic, answer.value) == (404, topic, error)


async def test_a_command_that_brings_values_goes_to_who_may_read_all_of_them():
    async with house() as there:
        heard = there.hears("command")
        await there.live.send(command("modify", "/attributes/public", 1), anne, seconds=0)
        await there.live.send(command("modify", "/attributes", {"secret": 1}), anne, seconds=0)
        await there.live.send(command("delete", "/attributes"), anne, seconds=0)
        assert [(signal.action, signal.path) for signal in heard] == [
            ("modify", ("attributes", "public")),
            ("delete", ("attributes",)),
        ]


async def test_an_event_is_told_as_far_as_it_may_be_read_and_dropped_without_the_right_to_change():
    def event(path, value):
        topic = "demo/T1/things/live/events/modified"
        return signal_from({"topic": topic, "path": path, "value": value, "revision": 1})

    async with house() as there:
        heard, other = there.hears("event"), there.hears("event", subjects=BOB)
        await there.live.send(event("/attributes", {"public": 5, "secret": 6}), anne, seconds=0)
        await there.live.send(event("/attributes/secret", 6), anne, seconds=0)
        await there.live.send(event("/attributes/public", 6), bob, seconds=0)
        assert [signal.value for signal in heard] == [{"public": 5}]
        assert [signal.value for signal in other] == [{"public": 5}]
        assert envelope_of(heard[0])["headers"]["entity-revision"] == 1


async def test_subscribers_get_what_they_want():
    async with house() as there:
        thing, feature = there.hears(path=("inbox",)), there.hears(path=("features", "f", "inbox"))
        subject = there.hears(path=("inbox", "messages", "ask"))
        another, there_too = there.hears(ids=frozenset({"demo:T2"})), there.hears(ids=frozenset({T1}))
        elsewhere = there.hears(namespaces=frozenset({"other"}))
        for signal in (message(), message("tell"), message(feature="f")):
            await there.live.send(signal, anne, seconds=0)
        assert [len(heard) for heard in (thing, feature, subject, another, there_too, elsewhere)] == [2, 1, 1, 0, 3, 0]


async def test_whoever_leaves_hears_no_more():
    async with house() as there:
        heard = []
        for ids in (frozenset(), frozenset({T1})):
            leave = there.live.subscribe(LiveWanted(sort="message", subjects=DEVICE, ids=ids), heard.append)
            leave()
            leave()
        await there.live.send(message(), anne, seconds=0)
        assert heard == []


async def test_filters_and_extra_fields():
    def parsed(text):
        return event_filter.parse(text, 0)

    async with house() as there:
        asked = there.hears(filter=parsed('eq(topic:subject,"ask")'))
        thing = there.hears(
            filter=parsed("eq(attributes/public,1)"), extra=fields.parse("attributes/public,attributes/secret")
        )
        hidden = there.hears(filter=parsed("eq(attributes/secret,2)"), extra=fields.parse("attributes"))
        pathed = there.hears(filter=parsed('like(resource:path,"/features/*")'))
        for signal in (message(), message("tell"), message(feature="f")):
            await there.live.send(signal, anne, seconds=0)
        assert [len(heard) for heard in (asked, thing, hidden, pathed)] == [2, 3, 0, 1]
        assert envelope_of(thing[0])["extra"] == {"attributes": {"public": 1}}


async def test_nobody_passes_off_extra_fields_or_places_in_the_journal_of_his_own():
    async with house() as there:
        heard, events = there.hears(), there.hears("event", ANNE, extra=fields.parse("attributes/missing"))
        made_up = {"attributes": {"secret": "made up", "missing": "made up"}}
        asked = message(**{"skerry-number": "7"})
        await there.live.send(signal_from(envelope_of(asked) | {"extra": made_up}), anne, seconds=0)
        event = {
            "topic": "demo/T1/things/live/events/modified",
            "path": "/attributes/public",
            "value": 1,
            "revision": 1,
        }
        await there.live.send(signal_from(event | {"headers": {}, "extra": made_up}), anne, seconds=0)
        for signal in (*heard, *events):
            assert "extra" not in envelope_of(signal)
            assert "skerry-number" not in signal.headers
        assert [len(heard), len(events)] == [1, 1]


async def test_a_condition_is_checked_against_what_the_sender_may_read():
    async with house() as there:
        heard = there.hears()
        await there.live.send(message(condition="eq(attributes/public,1)"), anne, seconds=0)
        for sender, condition in ((anne, "eq(attributes/public,2)"), (bob, "eq(attributes/secret,2)")):
            with pytest.raises(SkerryError) as caught:
                await there.live.send(message(condition=condition), sender, seconds=0)
            assert caught.value.code == "things:condition.failed"
        assert len(heard) == 1
        assert "condition" not in heard[0].headers


async def test_the_questions_of_one_subject_that_wait_are_bounded():
    async with house() as there:
        there.live = Live(there.registry, there.streams.acks, waiting_of_one=1)
        heard = there.hears(session=device.origin)
        asking = asyncio.ensure_future(there.live.send(message(), anne, seconds=LATE))
        await heard.until(1)
        with pytest.raises(TooManyWaiting):
            await there.live.send(message(), anne, seconds=LATE)
        assert there.live.answer(signal_from(envelope_of(heard[0]) | {"status": 200}), device)
        await asking
        there.echoes()
        assert (await there.live.send(message(), anne, seconds=LATE)).answer is not None


async def test_what_questions_carry_that_wait_is_bounded():
    async with house() as there:
        there.live = Live(there.registry, there.streams.acks, waiting_bytes=4_000)
        heard = there.hears(session=device.origin)
        asking = asyncio.ensure_future(there.live.send(message(value="x" * 900), anne, seconds=LATE))
        await heard.until(1)
        for value in ("y" * 200, ["y" * 200]):
            with pytest.raises(TooManyWaiting):
                await there.live.send(message(value=value), anne, seconds=LATE)
        await there.live.send(message(value="y" * 200), anne, seconds=0)
        assert there.live.answer(signal_from(envelope_of(heard[0]) | {"status": 200}), device)
        await asking
        there.echoes()
        assert (await there.live.send(message(value="y" * 1_000), anne, seconds=LATE)).answer is not None


async def test_the_server_itself_hears_everything_with_the_sender():
    async with house() as there:
        heard = there.hears(subjects=None)
        await there.live.send(message(), anne, seconds=0)
        assert heard[0].origin == anne.origin


async def test_payloads_are_bounded():
    async with house() as there:
        with pytest.raises(MessageTooLarge):
            await there.live.send(message(value="x" * 256_001), anne, seconds=0)
        await there.live.send(message(value="x" * 256_000), anne, seconds=0)


def test_which_acknowledgements_are_waited_for():
    assert labels_of({}) == ("live-response",)
    assert labels_of({"requested-acks": "twin-persisted"}) == ("live-response",)
    assert labels_of({"requested-acks": '["my:label"]'}) == ("my:label", "live-response")
    assert labels_of({"requested-acks": "my:label", "response-required": "false"}) == ("my:label",)
    assert labels_of({"response-required": "false"}) == ()


async def test_other_acknowledgements_come_with_the_answer():
    async with house() as there:
        there.streams.acks.declare(device.origin, ["my:label"])
        heard = there.hears(session=device.origin)
        signal = message(**{"requested-acks": ["my:label"]})
        asking = asyncio.ensure_future(there.live.send(signal, anne, seconds=LATE, labels=labels_of(signal.headers)))
        await heard.until(1)
        headers = {"correlation-id": heard[0].correlation}
        there.streams.acks.give(Ack(id=T1, label="my:label", status=201, headers=headers), device)
        assert there.live.answer(signal_from(envelope_of(heard[0]) | {"status": 200, "value": "pong"}), device)
        outcome = await asking
        assert {label: (ack.status, ack.value) for label, ack in outcome.acks.items()} == {
            "my:label": (201, UNSET),
            "live-response": (200, "pong"),
        }


async def test_who_has_declared_an_acknowledgement_and_was_not_handed_the_signal_gives_it_weakly():
    async with house() as there:
        there.streams.acks.declare("ws elsewhere", ["my:label"])
        there.echoes()
        signal = message(**{"requested-acks": ["my:label"]})
        outcome = await there.live.send(signal, anne, seconds=LATE, labels=labels_of(signal.headers))
        assert outcome.acks["my:label"].headers["ditto-weak-ack"] == "true"
        assert outcome.acks["live-response"].status == 200
