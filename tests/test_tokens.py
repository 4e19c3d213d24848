"""API tokens: made, found, ended."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skerry_registry.identities.tokens import (
    ApiTokenInvalid,
    ApiTokenNotFound,
    ApiTokens,
    TokensUnreadable,
)

SECOND = 1_000_000


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(tmp_path: Path, time: Time) -> ApiTokens:
    return ApiTokens(tmp_path / "tokens.json", time)


def test_a_token_stands_for_its_subjects_and_nothing_else(tokens: ApiTokens):
    text = tokens.create(["integration:weather", "group:blue", "group:blue"], roles=["devops"], note="weather")
    caller = tokens.find(text)
    assert caller is not None
    assert (caller.subjects, caller.roles, caller.kind) == (("integration:weather", "group:blue"), ("devops",), "token")
    assert caller.expires is None
    for other in (text[:-1], text + "x", text[:-1] + ("A" if text[-1] != "A" else "B"), "", "skerry__", text.upper()):
        assert tokens.find(other) is None


def test_the_file_holds_no_token_and_is_its_owner_s(tokens: ApiTokens):
    text = tokens.create(["a:b"])
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert text.split("_", 2)[2] not in tokens.path.read_text()
    assert {file.name for file in tokens.path.parent.iterdir()} == {"tokens.json", ".tokens.json.lock"}


def test_a_token_ends_when_it_was_said_to(tokens: ApiTokens, time: Time):
    text = tokens.create(["a:b"], expires=time.now + 10 * SECOND)
    time.now += 10 * SECOND - 1
    caller = tokens.find(text)
    assert caller is not None
    assert tokens.holds(caller.name.removeprefix("token:"))
    time.now += 1
    assert tokens.find(text) is None
    assert not tokens.holds(caller.name.removeprefix("token:"))


def test_a_token_that_somebody_else_revokes_is_gone_at_once(tokens: ApiTokens, time: Time):
    text, kept = tokens.create(["a:b"]), tokens.create(["a:c"])
    assert tokens.find(text)
    other = ApiTokens(tokens.path, time)
    other.revoke(text)
    assert tokens.find(text) is None
    assert tokens.find(kept)
    with pytest.raises(ApiTokenNotFound):
        other.revoke(text)


@pytest.mark.parametrize("subjects", [[], ["nobody"], ["a:b\n"], [""]])
def test_a_token_for_nobody_is_not_made(tokens: ApiTokens, subjects: list[str]):
    with pytest.raises(ApiTokenInvalid):
        tokens.create(subjects)


def test_a_token_that_has_ended_already_is_not_made(tokens: ApiTokens, time: Time):
    with pytest.raises(ApiTokenInvalid, match="ended already"):
        tokens.create(["a:b"], expires=time.now)


def test_a_file_that_cannot_be_read_opens_nothing(tokens: ApiTokens, caplog: pytest.LogCaptureFixture):
    text = tokens.create(["a:b"])
    tokens.path.write_text("{")
    assert tokens.find(text) is None
    assert [record.message for record in caplog.records] == ["tokens file not read"]
    with pytest.raises(TokensUnreadable, match=r"tokens\.json"):
        tokens.create(["a:b"])


def test_tokens_that_processes_make_at_the_same_time_are_all_kept(tokens: ApiTokens):
    make = (
        "import sys; from pathlib import Path; from skerry_registry.identities.tokens import ApiTokens\n"
        "tokens = ApiTokens(Path(sys.argv[1]), lambda: 1)\n"
        "for _ in range(10): tokens.create(['a:b'])"
    )
    makers = [subprocess.Popen([sys.executable, "-c", make, tokens.path]) for _ in range(3)]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    assert len(tokens.all()) == 30


def test_the_command_makes_lists_and_revokes_tokens(tmp_path: Path):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "skerry_registry", "token", *words, "--data-dir", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    made = run("create", "integration:weather", "--expires", "90d", "--note", "for the weather")
    assert made.returncode == 0, made.stderr
    assert "shown only now" in made.stderr
    text = made.stdout.strip()
    listed = run("list")
    assert "integration:weather" in listed.stdout
    assert "for the weather" in listed.stdout
    assert text not in listed.stdout
    assert "revoked" in run("revoke", text.split("_")[1]).stdout
    assert run("list").stdout == ""
    refused = run("create", "a:b", "--expires", "soon")
    assert refused.returncode == 2
    assert "12h, 30d" in refused.stderr
