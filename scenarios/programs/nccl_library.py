"""NCCL (or RCCL) by its C interface, bound to the library that torch brings, as vLLM's own wrapper does it."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any, Final

ID_BYTES: Final = 128
FLOAT32: Final = 7
SUM: Final = 0
STEP_S: Final = 0.02


class UniqueId(ctypes.Structure):
    """``ncclUniqueId``."""

    _fields_ = (("internal", ctypes.c_byte * ID_BYTES),)


class RawNccl:
    """One communicator; every call is made on the calling thread and returns when NCCL does."""

    def __init__(self, rank: int, ranks: int, folder: Path, wait_s: float) -> None:
        import torch

        torch.cuda.nccl.version()  # the library is loaded, and found by its name alone
        name = "librccl.so.1" if torch.version.hip else "libnccl.so.2"
        self._library = ctypes.CDLL(name)
        unique = self._unique_id(rank, folder / "nccl.id", wait_s)
        self._comm = ctypes.c_void_p()
        self._call("ncclCommInitRank", ctypes.byref(self._comm), ctypes.c_int(ranks), unique, ctypes.c_int(rank))

    def _unique_id(self, rank: int, path: Path, wait_s: float) -> UniqueId:
        """Make the id on rank 0 and read it from the file on the others."""
        unique = UniqueId()
        if rank == 0:
            self._call("ncclGetUniqueId", ctypes.byref(unique))
            whole = path.with_suffix(".part")
            whole.write_bytes(bytes(unique))
            whole.rename(path)
            return unique
        until = time.monotonic() + wait_s
        while not path.exists():
            if time.monotonic() > until:
                msg = "rank 0 made no NCCL id"
                raise TimeoutError(msg)
            time.sleep(STEP_S)
        return UniqueId.from_buffer_copy(path.read_bytes())

    def _call(self, name: str, *arguments: Any) -> None:
        status = int(getattr(self._library, name)(*arguments))
        if status:
            msg = f"{name} returned {status}"
            raise RuntimeError(msg)

    def all_reduce(self, tensor: Any) -> None:
        """Add up a float32 tensor over the ranks, in place, on the current stream."""
        import torch

        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        pointer = ctypes.c_void_p(tensor.data_ptr())
        count = ctypes.c_size_t(tensor.numel())
        kind, add = ctypes.c_int(FLOAT32), ctypes.c_int(SUM)
        self._call("ncclAllReduce", pointer, pointer, count, kind, add, self._comm, stream)

    def destroy(self) -> None:
        """Call ``ncclCommDestroy``."""
        self._call("ncclCommDestroy", self._comm)

    def abort(self) -> None:
        """Call ``ncclCommAbort``."""
        self._call("ncclCommAbort", self._comm)

    def shipped(self) -> None:
        """There is no caller's own way to end a raw communicator."""
        msg = "destroy=shipped needs a layer above NCCL"
        raise NotImplementedError(msg)


class VllmNccl:
    """VLLM's ``PyNcclCommunicator`` over its own process group without state; ``shipped`` is its own ``destroy``."""

    def __init__(self, rank: int, ranks: int, port: int) -> None:
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
        from vllm.distributed.utils import StatelessProcessGroup

        group = StatelessProcessGroup.create("127.0.0.1", port, rank, ranks)
        self._inner: Any = PyNcclCommunicator(group, device=rank)

    def all_reduce(self, tensor: Any) -> None:
        """Add up a tensor over the ranks, in place."""
        import torch

        self._inner.all_reduce(tensor, out_tensor=tensor, stream=torch.cuda.current_stream())

    def destroy(self) -> None:
        """Do what vLLM did up to 0.21."""
        self._inner.nccl.ncclCommDestroy(self._inner.comm)

    def abort(self) -> None:
        """Abort where it is called."""
        self._inner.nccl.ncclCommAbort(self._inner.comm)

    def shipped(self) -> None:
        """Do what this release does."""
        self._inner.destroy()
