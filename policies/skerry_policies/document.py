# ruff: noqa: N818 - errors are rows of a table
"""What may stand in a policy: checking it whole or part by part, and bringing it into its full form (ditto.md 3.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

from skerry import ids, values
from skerry.errors import SkerryError
from skerry.ids import check_policy_id
from skerry.pointer import PointerInvalid
from skerry.values import DEPTH_LIMIT, JsonFieldMissing, JsonInvalid
from skerry_policies import imports, parts, subjects

if TYPE_CHECKING:
    from skerry.signals import Json, Micros, Path


class PolicyInvalid(SkerryError):
    """Not an entry of a policy."""

    code = "policies:entry.invalid"
    status = 400
    message = "The policy is not valid at {at}: {problem}"
    description = 'Its shape: {{"entries": {{"<label>": {{"subjects": {{"<issuer>:<subject>": {{"type": "<text>"}}}}, "resources": {{"thing:/": {{"grant": ["READ"], "revoke": []}}}}}}}}}}.'


class LabelInvalid(SkerryError):
    """An entry's label that is reserved or empty."""

    code = "policies:label.invalid"
    status = 400
    message = "'{label}' cannot be the label of an entry."
    description = "Labels are not empty and do not begin with 'imported' or 'nsimported-'."


class PolicyIdNotSettable(SkerryError):
    """The body names another policy than the path."""

    code = "policies:id.notsettable"
    status = 400
    message = "The body's policyId '{found}' is not the policy '{policy_id}' that is addressed."
    description = "Leave policyId out of the body, or make both the same."


class ImportsTooMany(SkerryError):
    """More imports than a policy may have."""

    code = "policies:imports.toolarge"
    status = 400
    message = "The policy '{policy_id}' would import {count} policies; {limit} are allowed."
    description = "Import fewer policies, or let those that you import import the others, named in transitiveImports."


class Terms(Struct, frozen=True, kw_only=True):
    """What the operator has laid down: bytes of JSON, seconds to which expiries and announcements are rounded up, the guard."""

    limit: int = 102_400
    expiry_granularity: float = 3_600
    announcement_granularity: float = 60
    lockout_prevention: bool = True


TERMS = Terms()
IMPORTABLE = ("implicit", "explicit", "never")
ADDITIONS = ("subjects", "resources", "namespaces")
EFFECTS = ("grant", "revoke")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\xff]")


def check(policy_id: str, path: Path, value: Json, now: Micros, terms: Terms = TERMS) -> Json:
    """The value for a part of a policy in its full form.

    Raises what is wrong with it: the rows above and those of `subjects` and `imports`, JsonInvalid, JsonFieldMissing,
    PathUnknown.
    """
    part = parts.part_of(path)
    if value is UNSET:
        value = None
    values.check(value, len(path), addressable=False)
    return _Check(policy_id, now, terms).part(part, path, value)


class _Check(Struct, frozen=True):
    """One value being checked."""

    policy_id: str
    now: Micros
    terms: Terms

    def part(self, part: str, path: Path, value: Json) -> Json:
        """The value for this part."""
        at = "/" + "/".join(path)
        if part in _ANYWHERE:
            return _ANYWHERE[part](at, value)
        if part in {"policy", "entries", "imports"}:
            return {"policy": self._policy, "entries": self._entries, "imports": self._imports}[part](value)
        if part == "subjects":
            return self._subjects(at, value)
        if part == "subject":
            subjects.check_id(path[3])
            return self._subject(at, value)
        inside = {"entry": self._entry, "import": self._import, "import transitiveImports": self._transitive}
        return inside[part](path[1], value)

    def _policy(self, value: Json) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise JsonInvalid(at="/", problem="a policy is an object")
        found = value.get("policyId")
        if found is not None and found != self.policy_id:
            raise PolicyIdNotSettable(found=found, policy_id=self.policy_id)
        checked: dict[str, Any] = {"policyId": self.policy_id}
        if value.get("imports") and (imported := self._imports(value["imports"])):
            checked["imports"] = imported
        entries = value.get("entries")
        checked["entries"] = self._entries({} if entries is None else entries)
        return checked

    def _entries(self, value: Json) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise JsonInvalid(at="/entries", problem="the entries are not an object")
        return {label: self._entry(label, entry) for label, entry in value.items()}

    def _entry(self, label: str, entry: Json) -> dict[str, Any]:
        check_label(label)
        at = f"/entries/{label}"
        if not isinstance(entry, dict):
            raise JsonInvalid(at=at, problem="the entry is not an object")
        holders, resources = entry.get("subjects"), entry.get("resources")
        checked: dict[str, Any] = {
            "subjects": {} if holders is None else self._subjects(f"{at}/subjects", holders),
            "resources": {} if resources is None else _resources(f"{at}/resources", resources),
        }
        for name, check_member in _MEMBERS.items():
            member = entry.get(name)
            if member is not None:
                member = check_member(f"{at}/{name}", member)
                if member or name != "references":
                    checked[name] = member
            elif name == "importable":
                checked[name] = "implicit"
        return checked

    def _subjects(self, at: str, value: Json) -> dict[str, Any]:
        terms = self.terms
        return subjects.check(
            at, value, now=self.now, granularity=terms.expiry_granularity, announced=terms.announcement_granularity
        )

    def _subject(self, at: str, value: Json) -> dict[str, Any]:
        terms = self.terms
        return subjects.check_one(
            at, value, now=self.now, granularity=terms.expiry_granularity, announced=terms.announcement_granularity
        )

    def _imports(self, value: Json) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise JsonInvalid(at="/imports", problem="the imports are not an object")
        check_imports(self.policy_id, len(value))
        return {imported: self._import(imported, facts) for imported, facts in value.items()}

    def _import(self, imported: str, facts: Json) -> dict[str, Any]:
        check_policy_id(imported)
        at = f"/imports/{imported}"
        if not isinstance(facts, dict):
            raise JsonInvalid(at=at, problem="the import is not an object")
        if imported == self.policy_id:
            raise imports.ImportInvalid(imported=imported, policy_id=imported, problem="a policy cannot import itself")
        if not facts:
            return {}
        entries, through = facts.get("entries"), facts.get("transitiveImports")
        checked: dict[str, Any] = {"entries": [] if entries is None else _labels(f"{at}/entries", entries)}
        if through is not None and (found := self._transitive(imported, through)):
            checked["transitiveImports"] = found
        return checked

    def _transitive(self, imported: str, value: Json) -> list[str]:
        if not isinstance(value, list):
            raise JsonInvalid(at=f"/imports/{imported}/transitiveImports", problem="it is not an array")
        for wanted in value:
            problem = "transitiveImports holds something else than texts" if not isinstance(wanted, str) else None
            if wanted == self.policy_id:
                problem = "transitiveImports names the importing policy itself"
            if problem is not None:
                raise imports.ImportInvalid(imported=imported, policy_id=self.policy_id, problem=problem)
            check_policy_id(wanted)
        return list(dict.fromkeys(value))


def check_imports(policy_id: str, count: int) -> None:
    """Raise ImportsTooMany for more imports than a policy may have."""
    if count > imports.LIMIT:
        raise ImportsTooMany(policy_id=policy_id, count=count, limit=imports.LIMIT)


def check_label(label: Json) -> None:
    """Raise unless this may be the label of an entry."""
    if not label or not isinstance(label, str) or label.startswith(("imported", "nsimported-")):
        raise LabelInvalid(label=label)
    if "/" in label or _CONTROL.search(label):
        raise PolicyInvalid(at=f"/entries/{label}", problem="the label holds a slash or a control character")


def resource_key(at: str, key: str) -> str:
    """The key of a resource with its slash. Raises what is wrong with it."""
    kind, colon, path = key.partition(":")
    if not (kind and colon):
        raise JsonInvalid(at=at, problem="a resource reads <type>:/<path>, thing:/features for instance")
    if _CONTROL.search(key):
        raise PolicyInvalid(at=at, problem="the resource holds a control character, or one of U+007F to U+00FF")
    if key.count("/") > DEPTH_LIMIT:
        raise PolicyInvalid(at=at[:100], problem=f"the resource's path is deeper than {DEPTH_LIMIT} levels")
    if "//" in path:
        raise PointerInvalid(pointer=path, problem="a segment is empty")
    return key if path.startswith("/") else f"{kind}:/{path}"


def _resources(at: str, value: Json) -> dict[str, Any]:
    """The resources of an entry."""
    if not isinstance(value, dict):
        raise JsonInvalid(at=at, problem="the resources are not an object")
    return {resource_key(f"{at}/{key}", key): _rights(f"{at}/{key}", rights) for key, rights in value.items()}


def _rights(at: str, value: Json) -> dict[str, list[str]]:
    """The rights on one resource; permissions that nobody asks for are kept, as Ditto does."""
    if not isinstance(value, dict):
        raise JsonInvalid(at=at, problem="the permissions are not an object with grant and revoke")
    found: dict[str, list[str]] = {}
    for effect in EFFECTS:
        names = value.get(effect)
        if names is None:
            raise JsonFieldMissing(name=effect, at=at)
        if not isinstance(names, list):
            raise JsonInvalid(at=f"{at}/{effect}", problem="it is not an array of permissions")
        found[effect] = list(dict.fromkeys(filter(_is_text, names)))
    return found


def _is_text(value: Json) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def _labels(at: str, value: Json) -> list[str]:
    """The labels that an import names."""
    if not isinstance(value, list):
        raise JsonInvalid(at=at, problem="it is not an array of labels")
    labels = list(dict.fromkeys(filter(_is_text, value)))
    for label in labels:
        check_label(label)
    return labels


def _importable(at: str, value: Json) -> str:
    """Whether others may import an entry."""
    if not isinstance(value, str) or value not in IMPORTABLE:
        raise PolicyInvalid(at=at, problem=f"{values.encode(value).decode()} is none of {', '.join(IMPORTABLE)}")
    return value


def _namespaces(at: str, value: Json) -> list[str]:
    """The namespaces in which an entry counts."""
    if not isinstance(value, list):
        raise JsonInvalid(at=at, problem="it is not an array of namespaces")
    for pattern in value:
        namespace = pattern.removesuffix(".*") if isinstance(pattern, str) else ""
        if not ids.is_namespace(namespace):
            raise PolicyInvalid(at=at, problem=f"{pattern!r} is neither a namespace nor one with .* behind it")
    return list(value)


def _additions(at: str, value: Json) -> list[str]:
    """What those who refer to an entry may add."""
    if not isinstance(value, list):
        raise JsonInvalid(at=at, problem="it is not an array")
    for name in value:
        if name not in ADDITIONS:
            raise PolicyInvalid(at=at, problem=f"{name!r} is none of {', '.join(ADDITIONS)}")
    return list(dict.fromkeys(value))


def _references(at: str, value: Json) -> list[dict[str, str]]:
    """The entries that an entry refers to."""
    if not isinstance(value, list):
        raise JsonInvalid(at=at, problem="it is not an array")
    found: list[dict[str, str]] = []
    for index, reference in enumerate(value):
        if not isinstance(reference, dict):
            raise PolicyInvalid(at=f"{at}/{index}", problem="a reference is an object with an entry")
        label = reference.get("entry")
        if label is None:
            raise JsonFieldMissing(name="entry", at=f"{at}/{index}")
        if not isinstance(label, str):
            raise JsonInvalid(at=f"{at}/{index}/entry", problem="it is not a text")
        check_label(label)
        if "import" not in reference:
            found.append({"entry": label})
            continue
        imported = reference["import"]
        if not isinstance(imported, str) or not imported:
            raise JsonInvalid(at=f"{at}/{index}/import", problem="it is not the id of a policy")
        check_policy_id(imported)
        found.append({"import": imported, "entry": label})
    return found


_MEMBERS = {
    "namespaces": _namespaces,
    "importable": _importable,
    "allowedAdditions": _additions,
    "references": _references,
}

_ANYWHERE = {**_MEMBERS, "resources": _resources, "resource": _rights, "import entries": _labels}
