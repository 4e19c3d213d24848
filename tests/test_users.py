import asyncio
import json
import stat
from pathlib import Path

import pytest

from skerry_registry.identities.throttle import Throttle
from skerry_registry.users import (
    FAILURES_ALLOWED,
    FAILURES_OF_MANY,
    WAITING_OF_ADDRESS,
    PasswordInvalid,
    TooManyRequests,
    UserNameInvalid,
    UserNotFound,
    Users,
    UsersUnreadable,
)


async def subjects(users: Users, name: str, password: str, address: str = "") -> tuple[str, ...] | None:
    """The subjects of the user if the password is his."""
    caller = await users.verify(name, password, address)
    return caller.subjects if caller else None


@pytest.fixture
def users(tmp_path: Path) -> Users:
    users = Users.load(tmp_path / "users.json", recheck=0)
    users.add("ditto", "secret", ["devops"])
    return users


async def test_the_right_password_gives_the_prefixed_subject(users: Users):
    assert await subjects(users, "ditto", "secret") == ("nginx:ditto",)


async def test_a_wrong_password_and_an_unknown_name_give_nobody(users: Users):
    assert await subjects(users, "ditto", "Secret") is None
    assert await subjects(users, "nobody", "secret") is None


async def test_roles_come_with_the_caller(users: Users):
    caller = await users.verify("ditto", "secret")
    assert caller is not None
    assert caller.has("devops")
    assert not caller.has("admin")


def test_a_missing_file_means_no_users(tmp_path: Path):
    assert Users.load(tmp_path / "none.json").names() == []


@pytest.mark.parametrize("text", ["[", "[]", '{"a": {}}', '{"a": {"hash": 1}}'])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, text: str):
    path = tmp_path / "users.json"
    path.write_text(text)
    with pytest.raises(UsersUnreadable, match=r"users\.json"):
        Users.load(path)


def test_the_file_holds_hashes_for_its_owner_only(users: Users):
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    entry = json.loads(users.path.read_text())["ditto"]
    assert entry["hash"].startswith("$argon2id$")
    assert "secret" not in users.path.read_text()
    assert {file.name for file in users.path.parent.iterdir()} == {"users.json", ".users.json.lock"}


def test_a_user_added_and_removed_is_gone(users: Users):
    users.add("eve", "x")
    assert users.names() == ["ditto", "eve"]
    users.remove("eve")
    assert Users.load(users.path).names() == ["ditto"]
    with pytest.raises(UserNotFound):
        users.remove("eve")


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "x" * 129])
def test_names_that_basic_cannot_carry_are_refused(users: Users, name: str):
    with pytest.raises(UserNameInvalid):
        users.add(name, "x")


def test_an_empty_password_is_refused(users: Users):
    with pytest.raises(PasswordInvalid):
        users.add("eve", "")


async def test_own_subjects_replace_the_prefixed_name_and_survive_a_new_password(users: Users):
    users.add("eve", "x", subjects=["integration:eve", "group:blue"])
    users.add("eve", "y")
    assert await subjects(users, "eve", "y") == ("integration:eve", "group:blue")


async def test_a_changed_file_counts_at_once(users: Users):
    assert await subjects(users, "ditto", "secret")
    Users.load(users.path).add("ditto", "other")
    assert await subjects(users, "ditto", "secret") is None
    assert await subjects(users, "ditto", "other") == ("nginx:ditto",)


async def test_a_file_broken_while_running_leaves_the_users_as_they_were(
    users: Users, caplog: pytest.LogCaptureFixture
):
    users.path.write_text("{")
    assert await subjects(users, "ditto", "secret") == ("nginx:ditto",)
    assert await subjects(users, "ditto", "secret") == ("nginx:ditto",)
    assert [record.message for record in caplog.records] == ["users file not reloaded"]


async def test_a_verified_password_is_known_by_its_alias_until_the_file_changes(users: Users):
    alias = users.key(b"Basic whatever")
    assert users.known(alias) is None
    caller = await users.verify("ditto", "secret", alias=alias)
    assert users.known(alias) is caller
    users.add("eve", "x")
    assert users.known(alias) is None


async def test_no_secret_is_kept_in_memory_as_it_came(users: Users):
    await subjects(users, "ditto", "a rather long secret")
    await subjects(users, "ditto", "secret")
    kept = repr([vars(users)[name] for name in ("_verified", "_refused", "_guesses", "_strange", "_homes")])
    assert "secret" not in kept


async def test_many_logins_at_once_are_verified_once(users: Users):
    callers = await asyncio.gather(*(users.verify("ditto", "secret") for _ in range(200)))
    assert len({id(caller) for caller in callers}) == 1


async def test_failures_are_throttled_by_name_and_address_and_spare_others(users: Users):
    for number in range(FAILURES_ALLOWED):
        assert await subjects(users, "ditto", f"wrong{number}", "10.0.0.1") is None
    with pytest.raises(TooManyRequests):
        await users.verify("ditto", "secret", "10.0.0.1")
    assert await subjects(users, "ditto", "secret", "10.0.0.2")


async def test_the_loop_runs_on_while_passwords_are_verified(users: Users):
    logins = [asyncio.create_task(users.verify(f"user{number}", "wrong")) for number in range(20)]
    turns = 0
    while not all(login.done() for login in logins):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert not any(login.result() for login in logins)


async def test_a_flood_of_logins_is_refused_beyond_a_bound(users: Users):
    logins = [asyncio.create_task(users.verify(f"user{number}", "wrong")) for number in range(100)]
    answers = await asyncio.gather(*logins, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, TooManyRequests)]
    assert len(refused) == 36


async def test_one_address_cannot_take_all_the_room_for_logins(users: Users):
    flood = [asyncio.create_task(users.verify(f"stranger{n}", "x", "10.0.0.1")) for n in range(200)]
    await asyncio.sleep(0)
    assert (await users.verify("ditto", "secret", "10.0.0.2")) is not None
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 200 - WAITING_OF_ADDRESS


async def test_a_name_longer_than_any_user_has_costs_no_verification(users: Users):
    assert await users.verify("x" * 129, "secret", "10.0.0.1") is None
    assert not users._refused


async def test_one_wrong_password_repeated_for_ever_locks_nobody_out(users: Users):
    for _ in range(2 * FAILURES_ALLOWED):
        assert await users.verify("ditto", "of last year", "10.0.0.1") is None
    assert await users.verify("ditto", "secret", "10.0.0.1") is not None


async def test_the_rightful_user_goes_on_while_his_name_is_guessed_from_his_own_address(users: Users):
    assert await users.verify("ditto", "secret", "10.0.0.1") is not None
    for _ in range(FAILURES_ALLOWED):
        users.guess("ditto", "10.0.0.1")
    with pytest.raises(TooManyRequests):
        await users.verify("ditto", "guess", "10.0.0.1")
    assert await users.verify("ditto", "secret", "10.0.0.1") is not None


async def test_guesses_from_everywhere_spare_the_address_where_the_user_is_at_home(users: Users):
    assert await users.verify("ditto", "secret", "10.0.0.1") is not None
    for number in range(FAILURES_OF_MANY):
        users.guess("ditto", f"10.1.0.{number}")
    with pytest.raises(TooManyRequests) as refused:
        await users.verify("ditto", "secret of another session", "10.2.0.1")
    assert refused.value.headers == {"retry-after": "1"}
    users.add("ditto", "changed")
    assert await users.verify("ditto", "changed", "10.0.0.1") is not None


async def test_guessing_elsewhere_is_throttled_though_the_user_is_about(users: Users):
    assert await subjects(users, "ditto", "secret", "home")
    alias = users.key(b"Basic of ditto")
    await users.verify("ditto", "secret", "home", alias=alias)
    for number in range(FAILURES_ALLOWED):
        assert await subjects(users, "ditto", f"guess {number}", "elsewhere") is None
    for guess in ("one more", "secret"):
        with pytest.raises(TooManyRequests):
            await subjects(users, "ditto", guess, "elsewhere")
    with pytest.raises(TooManyRequests):
        users.known(alias, "elsewhere")
    assert users.known(alias, "home")
    assert await subjects(users, "ditto", "secret", "home")
    assert await subjects(users, "ditto", "secret", "on the way")


def test_a_throttle_gives_a_burst_and_then_one_try_after_the_other():
    seconds = [0.0]
    throttle = Throttle(2, 0.5, clock=lambda: seconds[0], kept=2)
    assert [throttle.take("a") for _ in range(3)] == [True, True, False]
    assert throttle.take("b")
    seconds[0] += 2
    assert [throttle.take("a") for _ in range(2)] == [True, False]
    throttle.give_back("a")
    assert throttle.take("a")
    assert throttle.take("c")  # and the oldest is forgotten
    assert throttle.take("a")
