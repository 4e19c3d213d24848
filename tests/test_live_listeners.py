"""Who is handed a live signal: those whom an obvious evaluation of the policy finds, and nobody else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.live import LiveSignal, message_path
from skerry.signals import Held
from skerry_policies.enforcer import compile_permits
from skerry_registry.live.listeners import Listener, Listeners, LiveWanted

SUBJECTS = ("a:1", "a:2", "a:3")
PLACES = ("message:/", "message:/inbox", "message:/inbox/messages/ask", "message:/features/f", "message:/outbox")
PATHS = [message_path("inbox", "ask"), message_path("inbox", "ask/more"), message_path("outbox", "tell", "f")]
THINGS = ("ns:t", "ns:u", "other:t")
WISHES = st.builds(
    lambda subjects, ids, namespaces, path, session: (
        LiveWanted(sort="message", subjects=subjects, ids=ids, namespaces=namespaces, path=path),
        session,
    ),
    st.none() | st.sets(st.sampled_from(SUBJECTS), min_size=1).map(lambda found: tuple(sorted(found))),
    st.frozensets(st.sampled_from(THINGS), max_size=2),
    st.frozensets(st.sampled_from(("ns", "other")), max_size=1),
    st.sampled_from([(), ("inbox",), ("inbox", "messages", "ask"), ("features", "f")]),
    st.sampled_from(("", "s1", "s2")),
)
RIGHTS = st.dictionaries(
    st.sampled_from(PLACES), st.sampled_from([{"grant": ["READ"], "revoke": []}, {"grant": [], "revoke": ["READ"]}])
)
ENTRIES = st.dictionaries(
    st.sampled_from(("x", "y", "z")),
    st.builds(
        lambda subjects, resources: {"subjects": {one: {"type": "t"} for one in subjects}, "resources": resources},
        st.sets(st.sampled_from(SUBJECTS)),
        RIGHTS,
    ),
)


@given(
    entries=ENTRIES,
    wishes=st.lists(st.tuples(WISHES, st.booleans()), max_size=8),
    thing=st.sampled_from(THINGS),
    path=st.sampled_from(PATHS),
    origin=st.sampled_from(("s1", "http x")),
)
def test_everybody_who_wants_it_and_may_have_it_is_handed_a_message_once(entries, wishes, thing, path, origin):
    listeners, wanted, stayed = Listeners(), [], []
    for number, ((wish, session), stays) in enumerate(wishes):
        leave = listeners.join(Listener(wish, wanted.append, f"{session}" if session else ""))
        if stays:
            stayed.append((number, wish, session))
        else:
            leave()
    signal = LiveSignal(sort="message", id=thing, topic="ns/t/things/live/messages/ask", path=path, origin=origin)
    policy = {"entries": entries}
    found = listeners.handed(
        signal,
        Held(kind="thing", id=thing, document={"thingId": thing}),
        lambda: {subject for entry in entries.values() for subject in entry["subjects"]},
        lambda subjects: compile_permits(policy, subjects),
        0,
        policy_of=lambda _: None,
    )
    expected = [
        (wish, session)
        for _, wish, session in stayed
        if (not wish.ids or thing in wish.ids)
        and (not wish.namespaces or thing.partition(":")[0] in wish.namespaces)
        and path[: len(wish.path)] == wish.path
        and not (session and session == origin)
        and (wish.subjects is None or compile_permits(policy, wish.subjects).holds("message", path, "READ"))
    ]
    told = [(listener.wanted, listener.session) for listener, _ in found]
    assert len(told) == len(expected)
    assert sorted(map(repr, told)) == sorted(map(repr, expected))
