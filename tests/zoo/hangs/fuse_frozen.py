"""Reads a file of a FUSE server that answers no read: bites jobs on network mounts whose daemon is wedged.

The mount lives in a namespace of this program's own and ends with it. References: libfuse's protocol in fuse_kernel.h;
the tasks that wait for a page of such a file are in state D.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

LOOKUP: Final = 1
GETATTR: Final = 3
OPEN: Final = 14
READ: Final = 15
FLUSH: Final = 25
INIT: Final = 26
HEADER: Final = struct.Struct("<IIQQIIIHH")
ATTR: Final = struct.Struct("<6Q10I")
SIZE: Final = 1 << 20


def attributes(node: int) -> bytes:
    mode = 0o40755 if node == 1 else 0o100644
    return ATTR.pack(node, SIZE, SIZE // 512, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def serve(device: int) -> None:
    while True:
        request = os.read(device, 1 << 17)
        _, opcode, unique, node, *_ = HEADER.unpack_from(request)
        if opcode == READ:
            continue  # the answer that never comes
        body = {
            INIT: struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 17, 1, 16, 8, 4096, 1, 32, 0, 0),
            LOOKUP: struct.pack("<QQQQII", 2, 0, 3600, 3600, 0, 0) + attributes(2),
            GETATTR: struct.pack("<QII", 3600, 0, 0) + attributes(node),
            OPEN: struct.pack("<QII", 1, 0, 0),
            FLUSH: b"",
        }.get(opcode)
        error = -38 if body is None else 0  # ENOSYS
        body = body or b""
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tempfile.mkdtemp()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if libc.mount(b"zoo", folder.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    daemon = os.fork()
    if daemon == 0:
        serve(device)
    os.close(device)
    print(f"suspect pid {os.getpid()}\nsuspect pid {daemon}", flush=True)
    with (Path(folder) / "data").open("rb") as file, mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ) as view:
        print("passed", view[0], flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", sys.executable, __file__, "inside"])  # noqa: S606 - no shell
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    main()
