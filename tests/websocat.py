"""Plays `websocat` where the machine has none: lines of stdin go out as text frames, text frames come out as lines.

python websocat.py [--basic-auth NAME:PASSWORD] URL
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys

import websockets


async def talk(url: str, login: str | None) -> None:
    """Carry frames both ways until one side ends."""
    headers = {} if login is None else {"authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    loop = asyncio.get_running_loop()
    typed = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(typed), sys.stdin)
    async with websockets.connect(url, additional_headers=headers, proxy=None) as wire:

        async def say() -> None:
            while line := await typed.readline():
                await wire.send(line.decode().rstrip("\n"))

        async def hear() -> None:
            async for frame in wire:
                print(frame, flush=True)

        tasks = [asyncio.create_task(say()), asyncio.create_task(hear())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--basic-auth")
    parser.add_argument("url")
    given = parser.parse_args()
    asyncio.run(talk(given.url, given.basic_auth))
