"""A worker extension that supplies what vLLM's CPU communicator lacks: gather and scatter of uneven parts, over gloo.

vLLM 0.32 dispatches tokens to experts of other data-parallel ranks by ``all_gatherv`` and ``reduce_scatterv``, and its
CPU communicator has neither (``NotImplementedError``). A cell that uses this says so in ``effective.patches``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.distributed as dist
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

from scenarios.programs.worker_extension import ProbeExtension

PATCH: Final = "all_gatherv and reduce_scatterv of the CPU communicator over gloo"


def gather(part: torch.Tensor, sizes: Sequence[int], group: Any) -> torch.Tensor:
    """Return the parts of all ranks, in their order; ``sizes`` are their lengths. gloo wants equal ones: we pad."""
    padded = part.new_zeros((max(sizes), *part.shape[1:]))
    padded[: part.shape[0]] = part
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([one[:size] for one, size in zip(parts, sizes, strict=True)])


def all_gatherv(self: Any, input_: Any, dim: int = 0, sizes: list[int] | None = None) -> Any:
    """Do what the communicators of the other devices do under this name."""
    if dim != 0:
        msg = "only along the first dimension"
        raise NotImplementedError(msg)
    if not isinstance(input_, torch.Tensor):
        return [all_gatherv(self, one, dim, sizes) for one in input_]
    return gather(input_, sizes or [input_.shape[0]] * self.world_size, self.cpu_group)


def reduce_scatterv(self: Any, input_: torch.Tensor, dim: int = -1, sizes: list[int] | None = None) -> torch.Tensor:
    """Sum over the ranks and return this rank's part."""
    whole = input_.movedim(0, dim).contiguous()
    dist.all_reduce(whole, group=self.cpu_group)
    parts = whole.split(sizes or [whole.shape[0] // self.world_size] * self.world_size)
    return parts[self.rank_in_group].movedim(0, dim).contiguous()


CpuCommunicator.all_gatherv = all_gatherv
CpuCommunicator.reduce_scatterv = reduce_scatterv


class GatherExtension(ProbeExtension):
    """Nothing more than the probe: importing this module in the worker is the patch."""
