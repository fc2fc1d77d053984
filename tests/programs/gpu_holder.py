"""Holds a device file open, as a process with a GPU does: ``gpu_holder.py FILE plain|zombie``.

As ``zombie`` the leader thread ends and another lives on, which holds the device: what the driver lists for nobody.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
import time

SYS_EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]


def hold() -> None:
    """Say that the device is open, and stay."""
    os.write(1, b"open\n")
    time.sleep(600)


descriptor = os.open(sys.argv[1], os.O_RDONLY)
if sys.argv[2] == "plain":
    hold()
threading.Thread(target=hold, daemon=True).start()
time.sleep(0.1)
ctypes.CDLL(None).syscall(SYS_EXIT, 0)  # ends this thread alone, and keeps the GIL from nobody: ctypes has released it
