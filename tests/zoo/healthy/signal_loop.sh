#!/bin/sh
# A shell that waits for an event loop which has nothing to do until somebody sends it a signal.
python3 -c '
import asyncio, signal

async def main():
    wanted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wanted.set)
    print("ready", flush=True)
    while await wanted.wait():
        wanted.clear()

asyncio.run(main())
'
echo done
