"""Placeholders in the subject ids of policies."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.placeholders import PlaceholderNotResolvable
from skerry.signals import Command
from skerry.substitution import substituted

ME = {"{{ request:subjectId }}": {"type": "me"}, "a:b": {"type": "x"}}
RESOLVED = {"nginx:ditto": {"type": "me"}, "a:b": {"type": "x"}}


def policy(path: tuple[str, ...], value: Any, **more: Any) -> Command:
    """A change of a policy."""
    return Command(
        verb="modify", kind="policy", id="n:p", subjects=("nginx:ditto", "o:o"), path=path, value=value, **more
    )


@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        ((), lambda subjects: {"policyId": "n:p", "entries": {"L": {"subjects": subjects, "resources": {}}}}),
        (("entries",), lambda subjects: {"L": {"subjects": subjects}, "M": {"subjects": {}}}),
        (("entries", "L"), lambda subjects: {"subjects": subjects, "resources": {}}),
        (("entries", "L", "subjects"), lambda subjects: subjects),
    ],
)
def test_subject_ids_are_resolved_wherever_they_stand(path: tuple[str, ...], wrap: Any) -> None:
    found = substituted(policy(path, wrap(ME)), 0)
    assert found.value == wrap(RESOLVED)
    assert found.path == path


def test_the_subject_in_a_path_is_resolved() -> None:
    legacy = policy(("entries", "L", "subjects", "${request.subjectId}"), {"type": "x"})
    assert substituted(legacy, 0).path == ("entries", "L", "subjects", "nginx:ditto")


def test_the_inline_policy_of_a_thing_is_resolved_and_its_attributes_are_not() -> None:
    value = {"attributes": {"a": "{{ request:subjectId }}"}, "_policy": {"entries": {"L": {"subjects": ME}}}}
    command = Command(verb="modify", id="n:t", subjects=("nginx:ditto",), value=value)
    found = substituted(command, 0).value
    assert found == {"attributes": value["attributes"], "_policy": {"entries": {"L": {"subjects": RESOLVED}}}}


def test_a_command_without_placeholders_stays_the_same_object() -> None:
    for command in (
        policy((), {"entries": {"L": {"subjects": {"a:b": {}}}}}),
        policy(("entries", "L", "resources"), {"thing:/{{ x }}": {}}),
        policy((), 5),
        Command(verb="modify", id="n:t", subjects=("a",), value={"_policy": {"entries": {}}}),
        Command(verb="merge", id="n:t", subjects=("a",), path=("attributes",), value={"a": "{{ x }}"}),
    ):
        assert substituted(command, 0) is command


@pytest.mark.parametrize("subject", ["{{ request:nobody }}", "{{ header:x }}", "${subject}"])
def test_an_unknown_placeholder_is_refused(subject: str) -> None:
    with pytest.raises(PlaceholderNotResolvable):
        substituted(policy(("entries", "L", "subjects"), {subject: {}}), 0)
