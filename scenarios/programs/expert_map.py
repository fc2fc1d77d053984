"""A worker extension that supplies the gather of `gloo_gather` and the second thing that expert parallelism needs.

vLLM 0.32's CPU experts say that they support every parallel configuration, take the map from all experts to those of
the rank, and do not use it: ``cpu_fused_moe`` then reads the weights of experts that are not there (SIGSEGV). Here the
experts of other ranks get weight 0, as the other back ends do it.
"""

from __future__ import annotations

from typing import Any, Final

from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts

from scenarios.programs.gloo_gather import GatherExtension

PATCH: Final = "the CPU experts use the expert map"
_shipped: Final = CPUUnquantizedExperts.apply


def apply(self: Any, *args: Any, **kwargs: Any) -> None:
    """Do the shipped call with local expert numbers; takes its arguments by name, as the caller passes them."""
    expert_map = kwargs.get("expert_map")
    if expert_map is not None:
        local = expert_map[kwargs["topk_ids"].long()]
        kwargs["topk_weights"] = kwargs["topk_weights"].masked_fill(local < 0, 0.0)
        kwargs["topk_ids"] = local.clamp(min=0).to(kwargs["topk_ids"].dtype)
    _shipped(self, *args, **kwargs)


CPUUnquantizedExperts.apply = apply


class ExpertMapExtension(GatherExtension):
    """Nothing more than the probe: importing this module in the worker is the patch."""
