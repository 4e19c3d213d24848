"""An embedded broker in a process of its own, to be killed: broker_process.py PORT FOLDER. Takes by writing lines to FOLDER/taken."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from broker_dialog import authenticate, clock
from skerry_adapters.broker import Broker
from skerry_adapters.inbound import Inbound


async def main(port: int, folder: Path) -> None:
    """Serve until killed."""
    with (folder / "taken").open("ab", buffering=0) as taken:

        async def take(messages: Sequence[Inbound]) -> None:
            taken.write(b"".join(b"%s %d\n" % (m.payload, m.redelivered) for m in messages))

        async with Broker("127.0.0.1", port, take=take, authenticate=authenticate, clock=clock, folder=folder):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
