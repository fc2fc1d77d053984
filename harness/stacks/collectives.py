"""Which frames are collectives: calls that return only when every rank of a group has made them."""

from __future__ import annotations

import re
from typing import Final

from harness.stacks.model import Frame

# Where the Python side of torch, vLLM, SGLang and Ray's collectives lives; elsewhere `send` is just a name.
_FILES: Final = frozenset({
    "_functional_collectives.py", "base_device_communicator.py", "collective.py", "communication_op.py",
    "cuda_communicator.py", "distributed_c10d.py", "parallel_state.py", "pynccl.py", "pynccl_wrapper.py",
})  # fmt: skip
_LIBRARIES: Final = re.compile(r"(?:p?(?:nc|rc)cl|MPI_I?|gloo::|c10d::)")
_OPERATION: Final = re.compile(
    r"(?:monitored)?barrier|all(?:reduce|gather|toall)\w*|reducescatter\w*|broadcast\w*|batchisendirecv|i?send|i?recv|"
    r"reduce|gather|scatter|comm(?:destroy|abort|finalize|init\w*|split)|groupend"
)


def operation(frame: Frame) -> str:
    """Return what a frame does together with other ranks (``allreduce``), spelt alike for all libraries, or nothing.

    The threads that serve a library and always run (``ncclProxyService``, gloo's loop) are none.
    """
    if frame.native:
        library = _LIBRARIES.match(frame.function)
        if library is None:
            return ""
        name = frame.function[library.end() :].rpartition("::")[2]
    elif frame.file in _FILES:
        name = frame.name
    else:
        return ""
    plain = name.lower().replace("_", "")
    return plain if _OPERATION.fullmatch(plain) else ""
