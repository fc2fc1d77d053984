"""Is a process group with PyTorch's flight recorder: makes its pipe, and writes a recorded dump when ordered to.

``flight_recorder RANK DUMP SAYS``: the dump that it writes is the file DUMP; with SAYS ``nothing`` it never does. With
``heir`` it has a child that holds the pipe, too; with ``file`` there is no pipe, but a file of its name.
The variables are those that the real one reads; the pipe is opened as ``ProcessGroupNCCL`` opens it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Look at the pipe now and then, as its thread does."""
    rank, recorded, says = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    pipe = Path(os.environ["TORCH_NCCL_DEBUG_INFO_PIPE_FILE"] + rank + ".pipe")
    if says == "file":
        pipe.touch()
    else:
        os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = os.fork() if says == "heir" else None
    if child == 0:
        prctl = ctypes.CDLL(None).prctl
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        signal.pause()
    ready = pipe.with_suffix(".writing")
    ready.write_text(str(child or ""))
    ready.rename(pipe.with_suffix(".ready"))
    while True:
        if os.read(descriptor, 1) and says == "dump":
            Path(os.environ["TORCH_FR_DUMP_TEMP_FILE"] + rank).write_bytes(recorded.read_bytes())
        time.sleep(0.05)


if __name__ == "__main__":
    main()
