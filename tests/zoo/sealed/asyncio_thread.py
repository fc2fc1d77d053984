"""Code on the event loop waits for a thread that waits for the event loop: bites sync wrappers of async clients."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor


async def fetch() -> str:
    await asyncio.sleep(0.1)
    return "answer"


def fetch_sync(loop: asyncio.AbstractEventLoop) -> str:
    return asyncio.run_coroutine_threadsafe(fetch(), loop).result()


async def handler(pool: ThreadPoolExecutor) -> None:
    print("passed", pool.submit(fetch_sync, asyncio.get_running_loop()).result(), flush=True)


def main() -> None:
    print(f"suspect pid {os.getpid()}", flush=True)
    with ThreadPoolExecutor() as pool:
        asyncio.run(handler(pool))


if __name__ == "__main__":
    main()
