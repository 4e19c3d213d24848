"""A login that is being verified while the users change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from skerry_registry.users import Users


async def test_a_password_that_is_replaced_while_it_is_verified_is_not_remembered(tmp_path: Path) -> None:
    users = Users.load(tmp_path / "users.json", recheck=0)
    users.add("anne", "old")
    login = asyncio.create_task(users.verify("anne", "old"))
    for _ in range(10):  # until the thread has the old hash
        await asyncio.sleep(0)

    users.add("anne", "new")

    assert await login is not None  # he came in time
    assert await users.verify("anne", "old") is None
    assert await users.verify("anne", "new") is not None
