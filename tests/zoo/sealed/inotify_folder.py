"""Waits for a file to appear in a folder, as a hot-reloading server or a mail robot does: inotify without a timeout."""

from __future__ import annotations

import ctypes
import os
import tempfile

IN_CREATE = 0x100


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory() as folder:
        watch = libc.inotify_init()
        if watch < 0 or libc.inotify_add_watch(watch, folder.encode(), IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        print("ready", flush=True)
        while os.read(watch, 4096):
            pass


if __name__ == "__main__":
    main()
