"""Placeholders in the subject ids of policies that a command brings (Ditto's substitution strategies, ditto.md 3.3)."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from skerry import placeholders
from skerry.signals import Command, Json, Micros

KNOWN = "{{ request:subjectId }}, {{ time:now }}"


def substituted(command: Command, now: Micros) -> Command:
    """The command with the placeholders in its subject ids resolved; the same command where there are none.

    That is: policies, their entries and subjects, and the inline `_policy` of a thing. Raises PlaceholderNotResolvable.
    """
    path, value = command.path, command.value
    if command.kind == "thing":
        if path or not isinstance(value, dict) or not isinstance(value.get("_policy"), dict):
            return command
        inline = value["_policy"]
        policy = _policy(inline, command, now)
        return command if policy is inline else structs.replace(command, value={**value, "_policy": policy})
    if command.verb not in {"create", "modify"}:
        return command
    if len(path) == 4 and path[0] == "entries" and path[2] == "subjects":
        subject = _resolved(path[3], command, now)
        return command if subject == path[3] else structs.replace(command, path=(*path[:3], subject))
    changed = value
    if not path:
        changed = _policy(value, command, now)
    elif path == ("entries",):
        changed = _entries(value, command, now)
    elif path[0] == "entries" and len(path) == 2:
        changed = _entry(value, command, now)
    elif path[0] == "entries" and len(path) == 3 and path[2] == "subjects":
        changed = _subjects(value, command, now)
    return command if changed is value else structs.replace(command, value=changed)


def _policy(policy: Json, command: Command, now: Micros) -> Json:
    if not isinstance(policy, dict):
        return policy
    return _with(policy, "entries", _entries(policy.get("entries"), command, now))


def _entries(entries: Json, command: Command, now: Micros) -> Json:
    if not isinstance(entries, dict):
        return entries
    changed = {label: _entry(entry, command, now) for label, entry in entries.items()}
    return entries if all(changed[label] is entry for label, entry in entries.items()) else changed


def _entry(entry: Json, command: Command, now: Micros) -> Json:
    if not isinstance(entry, dict):
        return entry
    return _with(entry, "subjects", _subjects(entry.get("subjects"), command, now))


def _subjects(subjects: Json, command: Command, now: Micros) -> Json:
    if not isinstance(subjects, dict) or not any("{" in subject for subject in subjects):
        return subjects
    return {_resolved(subject, command, now): facts for subject, facts in subjects.items()}


def _with(document: dict[str, Any], key: str, value: Json) -> dict[str, Any]:
    """The document with another value, or the same where it is the same."""
    return document if value is document.get(key) else {**document, key: value}


def _resolved(subject: str, command: Command, now: Micros) -> str:
    """A subject id without placeholders."""
    if not placeholders.has_placeholder(subject):
        return subject
    scopes = {"request": placeholders.request(command.subjects), "time": placeholders.time(now)}
    text = subject.replace("request.subjectId", "request:subjectId")
    try:
        found = placeholders.resolve(text, scopes)
    except placeholders.PlaceholderUnresolved as error:
        raise placeholders.PlaceholderNotResolvable(placeholder=error.facts["placeholder"], known=KNOWN) from error
    if not found:
        raise placeholders.PlaceholderNotResolvable(placeholder=subject, known=KNOWN)
    return found[0]
