"""A coroutine awaits a future that nobody will set: bites request maps whose entry was dropped on an error."""

from __future__ import annotations

import asyncio
import os


async def ask(pending: dict[int, asyncio.Future[str]]) -> str:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pending[1] = answer
    return await answer


async def run() -> None:
    pending: dict[int, asyncio.Future[str]] = {}
    request = asyncio.create_task(ask(pending))
    await asyncio.sleep(0.2)
    other = pending.get(2)  # the answer came under another id
    if other:
        other.set_result("answer")
    print("passed", await request, flush=True)


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    asyncio.run(run())


if __name__ == "__main__":
    main()
