"""An asyncio server without a client: idle in epoll, without any timer."""

from __future__ import annotations

import asyncio


async def serve() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
