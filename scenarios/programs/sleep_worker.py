"""A worker extension of vLLM that holds a buffer on the GPU, as code for weight synchronisation does."""

from __future__ import annotations

from typing import Any

from scenarios.programs.graph_worker import GraphExtension

HELD: dict[str, Any] = {}
"""Of this process; an extension's own attributes must not clash with the worker's."""


class SleepExtension(GraphExtension):
    """Reached by ``collective_rpc``."""

    def keep_buffer(self, mib: int) -> int:
        """Allocate outside of the engine's pools, and return the bytes."""
        import torch

        HELD["buffer"] = torch.ones(mib << 20, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        return int(HELD["buffer"].numel())

    def release_buffer(self) -> bool:
        """Let go of it; what torch keeps in its cache is its own business."""
        return HELD.pop("buffer", None) is not None
