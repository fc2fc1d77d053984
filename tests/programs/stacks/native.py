"""A thread in a C call that released the GIL, one that Python never saw, and a C call that holds the GIL.

Usage: ``python native.py libwaits.so [hold]``.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading


def call(library: ctypes.CDLL) -> None:
    library.native_wait()


def main() -> None:
    print(os.getpid(), flush=True)
    library = ctypes.CDLL(sys.argv[1])
    library.native_start()
    threading.Thread(target=call, args=(library,), name="native-call", daemon=True).start()
    held = ctypes.PyDLL(sys.argv[1]) if sys.argv[2:] == ["hold"] else library
    held.native_wait()


if __name__ == "__main__":
    main()
