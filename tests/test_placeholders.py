"""Placeholders: what they stand for, and what the functions behind them make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry import placeholders
from skerry.errors import SkerryError
from skerry.placeholders import has_placeholder, resolve
from skerry.times import parse as read_time

TOKEN = {
    "sub": "u1",
    "aud": "client",
    "scopes": "openid email",
    "extra": {"roles": ["administrator", "super-moderator", "moderator"]},
    "realm_access": {"roles": ["a", "b"]},
    "groups": [{"name": "x"}, {"name": "y"}],
    "authz": [
        {
            "reseller": "io",
            "provider": "acme",
            "roles": ["op"],
            "permissions": [
                {"resource": "things", "actions": ["read", "write"]},
                {"resource": "policies", "actions": ["read"]},
            ],
        },
        {"reseller": "io", "provider": "", "roles": ["admin"]},
    ],
    "level": 7,
    "nothing": None,
    "some": [None, "x", {"deep": None}],
    "ok": True,
}
SCOPES = {
    "jwt": placeholders.json(TOKEN),
    "time": placeholders.time(read_time("2024-01-06T14:23:42.123Z")),
    "request": placeholders.request(("nginx:ditto", "other")),
    "header": lambda name: {"a": ["abc:def"], "none": []}.get(name.lower(), []),
    "thing": {"id": ["ns:name"], "name": ["name"]}.get,
}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("plain", ["plain"]),
        ("", [""]),
        ("{{ jwt:sub }}", ["u1"]),
        ("{{jwt:sub}}@{{ jwt:aud }}", ["u1@client"]),
        ("{{ jwt:extra/roles }}", ["administrator", "super-moderator", "moderator"]),
        ("{{ jwt:/extra/roles }}", ["administrator", "super-moderator", "moderator"]),
        ("{{ jwt:groups/name }}", ["x", "y"]),
        ("{{ jwt:level }}-{{ jwt:ok }}", ["7-true"]),
        ("{{ jwt:nothing }}", []),
        ("a-{{ jwt:nothing }}", []),
        ("{{ jwt:nothing | fn:default('x') }}", ["x"]),
        ("{{ jwt:some }}", ["x", '{"deep":null}']),
        ("{{ jwt:some/deep }}", []),
        ("{{ jwt:missing }}", []),
        ("x{{ jwt:missing }}y", []),
        ("{{ jwt:missing | fn:default('d') }}", ["d"]),
        ("{{ jwt:missing | fn:default(jwt:sub) }}", ["u1"]),
        ("{{ jwt:scopes | fn:split(' ') }}", ["openid", "email"]),
        (
            "{{ jwt:extra/roles | fn:filter('like','*moderator') }}@{{ jwt:aud }}",
            ["super-moderator@client", "moderator@client"],
        ),
        ("{{ jwt:extra/roles | fn:filter('like','mod*|adm*') }}", ["administrator", "moderator"]),
        ("{{ jwt:extra/roles | fn:filter('ne','moderator') }}", ["administrator", "super-moderator"]),
        (
            "{{ jwt:extra/roles | fn:filter(jwt:aud,'eq','client') | fn:join(',') }}",
            ["administrator,super-moderator,moderator"],
        ),
        ("{{ jwt:extra/roles | fn:filter(jwt:aud,'eq','other') }}", []),
        ("{{ jwt:sub | fn:filter(header:none,'exists') }}", []),
        ("{{ jwt:sub | fn:filter(header:none,'exists','false') }}", ["u1"]),
        ("{{ jwt:sub | fn:filter('exists') }}", ["u1"]),
        ("{{ jwt:sub | fn:filter('unknown','u1') }}", []),
        ("{{ header:a | fn:substring-before(':') }}", ["abc"]),
        ("{{ header:a | fn:substring-after(':') | fn:upper() }}", ["DEF"]),
        ("{{ header:a | fn:substring-after('#') }}", []),
        ("{{ jwt:sub | fn:upper() | fn:lower() }}", ["u1"]),
        ("{{ fn:default(' x ') | fn:trim() }}", ["x"]),
        ("{{ fn:default('a b&ä') | fn:url-encode() }}", ["a+b%26%C3%A4"]),
        ("{{ fn:default('a+b%26') | fn:url-decode() }}", ["a b&"]),
        ("{{ fn:default('hi') | fn:base64-encode() }}", ["aGk="]),
        ("{{ fn:default('aGk=') | fn:base64-decode() }}", ["hi"]),
        ("{{ fn:default('*') | fn:base64-decode() }}", []),
        ("{{ header:a | fn:replace('abc','x') }}", ["x:def"]),
        ('{{ header:a | fn:replace("abc", "|") }}', ["|:def"]),
        ("{{ jwt:sub | fn:delete() }}", []),
        ("a{{ jwt:sub | fn:delete() }}", ["a"]),
        ("{{ jwt:sub | fn:delete() }}a", ["a"]),
        ("{{ jwt:authz | fn:format('{reseller}#{provider}#{roles}') }}", ["io#acme#op", "io##admin"]),
        (
            "{{ jwt:authz | fn:format('{provider}:{#permissions}{resource}:{#actions}{.}{/actions}{/permissions}') | fn:filter('like','acme*') }}",
            ["acme:things:read", "acme:things:write", "acme:policies:read"],
        ),
        (r"{{ jwt:authz | fn:format('\{{provider}\}') }}", ["{acme}", "{}"]),
        ("{{ jwt:sub | fn:format('{a}') }}", [""]),
        ("{{ time:now }}", ["2024-01-06T14:23:42.123000Z"]),
        ("{{ time:now-7d[h] }}", ["2023-12-30T14:00:00.000000Z"]),
        ("{{ time:now_epoch_millis }}", ["1704551022123"]),
        ("{{ request:subjectId }}", ["nginx:ditto"]),
        ("${request:subjectId}", ["nginx:ditto"]),
        ("{ { jwt:sub } }", ["{ { jwt:sub } }"]),
        ("{{ jwt:sub", ["{{ jwt:sub"]),
    ],
)
def test_a_text_stands_for_its_values(text: str, values: list[str]) -> None:
    assert resolve(text, SCOPES) == values


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{{ nothing:at-all }}", "placeholder:unresolved"),
        ("{{ thing:colour }}", "placeholder:unresolved"),
        ("{{ sub }}", "placeholder:unresolved"),
        ("{{ }}", "placeholder:unresolved"),
        ("{{ jwt:sub | }}", "placeholder:unresolved"),
        ("{{ time:later }}", "placeholder:unresolved"),
        ("{{ jwt:sub | fn:explode() }}", "placeholder:function.unknown"),
        ("{{ jwt:sub | upper }}", "placeholder:function.unknown"),
        ("{{ jwt:sub | fn:upper('x') }}", "placeholder:function.signature.invalid"),
        ("{{ jwt:sub | fn:default() }}", "placeholder:function.signature.invalid"),
        ("{{ jwt:sub | fn:default(bare) }}", "placeholder:function.signature.invalid"),
        ("{{ jwt:sub | fn:default('a','b') }}", "placeholder:function.signature.invalid"),
        ("{{ jwt:sub | fn:default(no:such) }}", "placeholder:unresolved"),
        ("{{ jwt:sub " + "| fn:upper() " * 11 + "}}", "placeholder:function.too.complex"),
        ("{{ jwt:extra/roles }}" * 7, "placeholder:function.too.complex"),
    ],
)
def test_what_cannot_be_resolved_is_refused(text: str, code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        resolve(text, SCOPES)
    assert caught.value.payload()["error"] == code
    assert caught.value.status == 400


def test_a_placeholder_is_seen() -> None:
    assert has_placeholder("a{{ b }}")
    assert has_placeholder("${b}")
    assert not has_placeholder("{{ b")
    assert not has_placeholder("plain")


@given(st.text("{}|'\"(),.#/\\ fn:jwtsubdefault-", max_size=60))
def test_any_text_is_resolved_or_refused(text: str) -> None:
    try:
        values = resolve(text, SCOPES)
    except SkerryError as error:
        assert error.status == 400  # noqa: PT017 - refusing is one of the two answers
    else:
        assert all(isinstance(value, str) for value in values)


def test_many_values_cost_little() -> None:
    wide = {"jwt": placeholders.json({"a": [{"b": list(range(500)), "c": list(range(500))}]})}
    with pytest.raises(placeholders.PlaceholderTooComplex):
        resolve("{{ jwt:a | fn:format('{b}{c}') }}", wide)
