"""Acknowledgements: declared, awaited, given, given weakly, and told together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from registry_door import ANNE, T1, serving
from skerry.acks import WEAK, combined, shown, statuses
from skerry.headers import AckLabelInvalid, HeaderInvalid
from skerry.protocol import Ack, ack_from
from skerry.signals import Command, Response
from skerry_registry.announcements import Announcement, Announcements
from skerry_registry.http.acks import of_acks
from skerry_registry.http.errors import CommandTimeout
from skerry_registry.live.acks import AckLabelForbidden, AckLabelNotDeclared, AckLabelsTaken, Acks
from skerry_registry.live.gathering import Gathered, acks_envelope, gather
from skerry_registry.live.sender import Sender
from skerry_registry.live.wishes import Wish, check_answered, wish_of

ASKED = {"correlation-id": "c1", "requested-acks": "twin-persisted,h:one,h:two"}
SOON = 0.05
LONG = 20.0


def of(session: str, *, declares: bool = True) -> Sender:
    return Sender(subjects=ANNE, origin=session, declares=declares)


def ack(label: str, status: int = 200, **more: object) -> Ack:
    return Ack(id=T1, label=label, status=status, headers={"correlation-id": "c1"}, **more)


def put(labels: str, value: object = 1, origin: str = "") -> Command:
    return Command(
        verb="modify",
        id=T1,
        subjects=ANNE,
        path=("attributes", "a"),
        value=value,
        headers={"correlation-id": "c1", "requested-acks": labels},
        origin=origin,
    )


async def answer(response: Response) -> Response:
    return response


def test_a_label_is_one_session_s_own():
    acks = Acks()
    acks.declare("ws a", ("h:one", "h:two"))
    with pytest.raises(AckLabelsTaken) as told:
        acks.declare("ws b", ("h:three", "h:two"))
    assert (told.value.code, told.value.status) == ("acknowledgement:label.not.unique", 409)
    acks.declare("ws c", ("h:three",))
    acks.withdraw("ws a")
    acks.declare("ws b", ("h:one", "h:two"))


def test_what_is_no_label_is_not_declared_and_the_server_s_own_are_passed_over():
    acks = Acks()
    with pytest.raises(AckLabelInvalid):
        acks.declare("ws a", ("h:one", "x"))
    acks.declare("ws a", ("twin-persisted",))
    acks.declare("ws b", ("twin-persisted", "h:one"))


def test_a_session_is_told_only_of_the_labels_that_it_may_give():
    acks = Acks()
    assert acks.shown("ws a", ASKED) == ()
    acks.declare("ws a", ("h:one",))
    assert acks.shown("ws a", ASKED) == ("h:one",)
    assert acks.shown("ws b", ASKED) == ()
    assert acks.shown("ws a", {"requested-acks": '["live-response","h:one"]'}) == ("h:one",)
    assert acks.shown("ws a", {}) == ()


@pytest.mark.parametrize("label", ["twin-persisted", "live-response", "search-persisted"])
def test_nobody_gives_what_the_server_gives(label: str):
    with pytest.raises(AckLabelForbidden):
        Acks().give(ack(label), of("ws a"))


def test_what_was_not_declared_is_not_taken_save_from_who_has_no_way_to_declare_it():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    with pytest.raises(AckLabelNotDeclared):
        acks.give(ack("h:one"), of("ws b"))
    with pytest.raises(AckLabelNotDeclared):
        acks.give(ack("h:two"), of("ws b"))
    acks.give(ack("h:two"), of("mqtt d", declares=False))
    with pytest.raises(AckLabelNotDeclared):
        acks.give(ack("h:one"), of("mqtt d", declares=False))


async def test_all_that_was_asked_for_is_waited_for():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    acks.declare("ws b", ("h:two",))
    assert not acks.awaited
    with acks.expecting(T1, "c1", ("twin-persisted", "h:one", "h:two")) as waiting:
        assert bool(acks.awaited)
        acks.reached(T1, ASKED, {"ws a", "ws b"})
        gathering = asyncio.create_task(waiting.gather(LONG))
        acks.give(ack("h:one", 202, value={"ok": 1}), of("ws a"))
        acks.give(ack("h:one", 500), of("ws a"))
        assert not gathering.done()
        acks.give(ack("h:two", 404), of("ws b"))
        found = await gathering
    assert {label: (given.status, given.value) for label, given in found.items()} == {
        "h:one": (202, {"ok": 1}),
        "h:two": (404, UNSET),
    }
    assert not acks.awaited
    acks.give(ack("h:one"), of("ws a"))  # late: nobody waits any more


async def test_who_is_silent_is_told_of_as_a_timeout():
    acks = Acks()
    with acks.expecting(T1, "c1", ("h:one",)) as waiting:
        acks.reached(T1, ASKED, ())
        found = await waiting.gather(SOON)
    assert found["h:one"].status == 408
    assert found["h:one"].value["error"] == "acknowledgement:request.timeout"
    assert not found["h:one"].headers.get("ditto-weak-ack")


async def test_a_session_that_was_not_told_acknowledges_weakly_at_once():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    acks.declare("ws b", ("h:two",))
    with acks.expecting(T1, "c1", ("h:one", "h:two")) as waiting:
        acks.reached(T1, ASKED, {"ws b"})
        acks.give(ack("h:two", 204), of("ws b"))
        found = await waiting.gather(LONG)
    assert list(found) == ["h:one", "h:two"]
    assert (found["h:one"].status, found["h:one"].headers["ditto-weak-ack"]) == (200, "true")
    assert shown(found)["h:one"]["headers"]["ditto-weak-ack"] is True


async def test_who_asks_for_his_own_acknowledgement_may_give_it_though_he_is_not_told():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    with acks.expecting(T1, "c1", ("h:one",), origin="ws a") as waiting:
        acks.reached(T1, ASKED, ())
        acks.give(ack("h:one", 201), of("ws a"))
        assert (await waiting.gather(LONG))["h:one"].status == 201


async def test_nothing_counts_of_another_thing_or_under_another_id():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    with acks.expecting(T1, "c1", ("h:one",)) as waiting:
        acks.reached(T1, ASKED, {"ws a"})
        acks.give(Ack(id=T1, label="h:one", status=200), of("ws a"))
        acks.give(Ack(id=T1, label="h:one", status=200, headers={"correlation-id": "c2"}), of("ws a"))
        acks.give(Ack(id="demo:T2", label="h:one", status=200, headers={"correlation-id": "c1"}), of("ws a"))
        assert not waiting.given
        assert (await waiting.gather(SOON))["h:one"].status == 408


async def test_word_of_other_signals_says_nothing_of_this_one():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    with acks.expecting(T1, "c1", ("h:one",)) as waiting:
        acks.reached(T1, {"correlation-id": "c2"}, ())
        acks.reached("demo:T2", ASKED, ())
        assert not waiting.given


async def test_who_answers_while_he_is_being_told_is_heard():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    with acks.expecting(T1, "c1", ("h:one",)) as waiting:
        acks.give(ack("h:one", 201), of("ws a"))
        acks.reached(T1, ASKED, {"ws a"})
        assert (await waiting.gather(LONG))["h:one"].status == 201


async def test_two_who_ask_under_one_correlation_id_get_one_each():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    with acks.expecting(T1, "c1", ("h:one",)) as first, acks.expecting(T1, "c1", ("h:one",)) as second:
        acks.reached(T1, ASKED, {"ws a"})
        acks.reached(T1, ASKED, {"ws a"})
        acks.give(ack("h:one", 201), of("ws a"))
        acks.give(ack("h:one", 202), of("ws a"))
        assert [(await one.gather(LONG))["h:one"].status for one in (first, second)] == [201, 202]


SESSIONS = st.sampled_from(["ws a", "ws b", "ws c"])
LABELS = st.sampled_from(["h:one", "h:two", "h:three"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("declare"), SESSIONS, LABELS),
        st.tuples(st.just("withdraw"), SESSIONS, st.none()),
        st.tuples(st.just("give"), SESSIONS, LABELS),
        st.tuples(st.just("reach"), st.frozensets(SESSIONS), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(asked=st.lists(LABELS, unique=True, min_size=1), steps=STEPS, origin=st.one_of(SESSIONS, st.just("http")))
def test_whatever_happens_each_label_is_told_once_and_as_the_plainest_account_has_it(asked, steps, origin):
    acks = Acks()
    owners: dict[str, str] = {}
    expected: dict[str, int | str] = {}
    reached = False
    with acks.expecting(T1, "c1", asked, origin=origin) as waiting:
        for number, (step, who, label) in enumerate(steps):
            if step == "declare":
                taken = owners.get(label, who) != who
                with pytest.raises(AckLabelsTaken) if taken else nullcontext():
                    acks.declare(who, (label,))
                owners.setdefault(label, who)
            elif step == "withdraw":
                acks.withdraw(who)
                owners = {label: owner for label, owner in owners.items() if owner != who}
            elif step == "give":
                mine = owners.get(label) == who
                with nullcontext() if mine else pytest.raises(AckLabelNotDeclared):
                    acks.give(ack(label, 200 + number), of(who))
                if mine and label in asked:
                    expected.setdefault(label, 200 + number)
            else:
                acks.reached(T1, ASKED, who)
                for wanted in asked if not reached else ():
                    if wanted in owners and owners[wanted] not in {*who, origin}:
                        expected.setdefault(wanted, "weak")
                reached = True
        found = {label: "weak" if WEAK in came.headers else came.status for label, came in waiting.given.items()}
        assert found == expected
        assert set(waiting.pending) == set(asked) - set(expected)
    assert not acks.awaited


async def test_an_announcement_is_acknowledged_by_its_correlation_id():
    announcements = Announcements()
    acks = Acks(announcements)
    acks.declare("ws a", ("h:one",))
    heard: asyncio.Future[Announcement] = asyncio.get_running_loop().create_future()
    announcements.subscribe(ANNE, heard.set_result)
    announcing = asyncio.create_task(
        announcements.announce(
            Announcement(id="c1", policy_id=T1, subject=ANNE[0], deleted_at=0, labels=("h:one",), timeout=LONG)
        )
    )
    await heard
    acks.give(ack("h:one"), of("ws a"))
    assert await announcing


async def gathered(labels: str, told: Callable[[Acks, Command], Awaitable[None]], seconds: float = LONG) -> Gathered:
    """What comes of a change that asks for these labels, with somebody who declared h:one and is told of what `told` says."""
    async with serving() as registry:
        acks = Acks()
        acks.declare("ws a", ("h:one",))
        registry.on_settled(acks.settled)
        await registry.handle(Command(verb="create", id=T1, subjects=ANNE, value={}))
        command = put(labels)
        wish = Wish(seconds, tuple(labels.split(",")))

        async def handling() -> Response:
            response = await registry.handle(command)
            await told(acks, command)
            return response

        return await gather(handling(), command, wish, acks)


async def test_a_change_and_what_others_say_of_it_are_told_in_the_order_asked_for():
    async def told(acks: Acks, command: Command) -> None:
        acks.reached(T1, command.headers, {"ws a"})
        acks.give(ack("h:one", 202), of("ws a"))

    found = await gathered("h:one,twin-persisted,search-persisted", told)
    assert [(label, given.status) for label, given in found.acks.items()] == [
        ("h:one", 202),
        ("twin-persisted", 201),
        ("search-persisted", 204),
    ]
    assert found.acks["twin-persisted"].headers["etag"]
    assert shown(found.acks)["twin-persisted"]["headers"]["entity-revision"] == 2
    strange = Ack(id=T1, label="h:one", status=200, headers={"entity-revision": "two"})
    assert shown({"h:one": strange})["h:one"]["headers"] == {"entity-revision": "two"}
    assert not found.plain
    assert combined(found.acks) == 200


async def test_the_change_s_own_acknowledgement_is_its_answer():
    async def told(_: Acks, __: Command) -> None:
        pass

    found = await gathered("twin-persisted", told)
    assert found.plain
    assert found.response is not None
    assert found.response.status == 201


async def test_a_change_that_makes_no_event_is_acknowledged_weakly():
    acks = Acks()
    acks.declare("ws a", ("h:one",))
    found = await gather(answer(Response(status=204)), put("h:one"), Wish(LONG, ("h:one",)), acks)
    assert found.acks["h:one"].headers["ditto-weak-ack"] == "true"


async def test_what_comes_too_late_is_told_label_by_label():
    never = asyncio.get_running_loop().create_future()
    acks = Acks()
    found = await gather(never, put("h:one,twin-persisted"), Wish(SOON, ("h:one", "twin-persisted")), acks)
    assert {given.status for given in found.acks.values()} == {408}
    assert combined(found.acks) == 424
    again = asyncio.get_running_loop().create_future()
    with pytest.raises(CommandTimeout):
        await gather(again, put("twin-persisted"), Wish(SOON, ("twin-persisted",)), acks)


def test_many_are_told_as_one():
    one, two = ack("h:one", 202, value={"ok": 1}), ack("h:two", 404)
    assert combined({"h:one": one}) == 202
    assert combined({"h:one": one, "h:two": two}) == 424
    assert statuses({"h:one": one, "h:two": two}) == {"h:one": {"status": 202}, "h:two": {"status": 404}}
    assert shown({"h:one": one}) == {
        "h:one": {"status": 202, "payload": {"ok": 1}, "headers": {"correlation-id": "c1"}}
    }
    envelope = acks_envelope(T1, {"h:one": one, "h:two": two}, "c1", channel="live")
    assert envelope["topic"] == "demo/T1/things/live/acks"
    assert (envelope["path"], envelope["status"]) == ("/", 424)
    assert envelope["headers"]["response-required"] is False
    assert set(envelope["value"]) == {"h:one", "h:two"}


def test_a_single_one_lends_its_headers_and_status():
    one = Ack(id=T1, label="h:one", status=202, headers={"correlation-id": "c1", "x-extra": "y"})
    envelope = acks_envelope(T1, {"h:one": one}, "c1")
    assert (envelope["headers"]["x-extra"], envelope["status"]) == ("y", 202)


def test_over_http_one_answers_for_itself_and_failures_alone_are_told_to_who_wants_no_answer():
    one, two = ack("h:one", 202, value={"ok": 1}), ack("h:two", 404)
    alone = of_acks({"h:one": one}, answer=True)
    assert (alone.status, alone.body) == (202, b'{"ok":1}')
    assert of_acks({"h:one": one}, answer=False).status == 202
    failed = of_acks({"h:two": two}, answer=False)
    assert (failed.status, failed.body) == (404, b"")
    silent = of_acks({"h:one": one, "h:two": two}, answer=False)
    assert (silent.status, silent.body) == (424, b'{"h:one":{"status":202},"h:two":{"status":404}}')


def test_an_acknowledgement_keeps_its_channel():
    text = b'{"topic":"demo/T1/things/live/acks/h:one","headers":{"correlation-id":"c1"},"path":"/","status":200}'
    assert ack_from(text) == Ack(id=T1, label="h:one", status=200, channel="live", headers={"correlation-id": "c1"})


@pytest.mark.parametrize(
    ("given", "wish"),
    [
        ({}, Wish()),
        ({"requested-acks": "[]"}, Wish()),
        ({"requested-acks": '["h:one","live-response"]', "timeout": "2s"}, Wish(2.0, ("h:one",))),
        ({"timeout": "0"}, Wish(0.0)),
        ({"response-required": "false"}, Wish(answer=False)),
    ],
)
def test_wishes_are_read_from_headers(given: dict[str, str], wish: Wish):
    assert wish_of(given, query=False) == wish
    check_answered(wish)


def test_acknowledgements_are_waited_for_longer_than_answers():
    assert wish_of({"requested-acks": "h:one"}, query=False).timeout == 60.0
    assert wish_of({"requested-acks": "h:one", "timeout": "3s"}, query=False).timeout == 3.0
    assert wish_of({"response-required": "true"}, query=False).timeout == 10.0


@pytest.mark.parametrize(
    "given", [{"timeout": "0", "requested-acks": "h:one"}, {"timeout": "0", "response-required": "true"}]
)
def test_who_waits_for_something_must_give_it_time(given: dict[str, str]):
    with pytest.raises(HeaderInvalid):
        wish_of(given, query=False)


def test_a_session_cannot_ask_for_acknowledgements_without_an_answer():
    with pytest.raises(HeaderInvalid):
        check_answered(wish_of({"requested-acks": "h:one", "response-required": "false"}, query=False))
