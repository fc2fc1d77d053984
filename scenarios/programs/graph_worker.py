"""A worker extension of vLLM that says in which mode the worker's CUDA graphs really are, and how many there are."""

from __future__ import annotations

from typing import Any, Final

ALL_REDUCES: Final = {
    "qr_comm": "quick",
    "fi_ar_comm": "flashinfer",
    "aiter_ar_comm": "aiter",
    "ca_comm": "custom",
    "symm_mem_comm": "symm_mem",
    "pynccl_comm": "nccl",
}
"""Attributes of vLLM's communicator in the order in which it asks them (0.26: ``cuda_communicator.py``)."""

RUNNERS: Final = {"vllm.v1.worker.gpu_model_runner": "v1", "vllm.v1.worker.gpu.model_runner": "v2"}


def all_reduce_of(communicator: Any) -> str:
    """Return which all-reduce a communicator of vLLM asks first, of those that it did not disable; else ``none``."""
    for attribute, name in ALL_REDUCES.items():
        found = getattr(communicator, attribute, None)
        if found is not None and not getattr(found, "disabled", False):
            return name
    return "none"


class GraphExtension:
    """Reads, and changes nothing; reached by ``collective_rpc``."""

    def graph_state(self) -> dict[str, Any]:
        """Return which model runner this is, its mode in the end, how many graphs it captured, and the all-reduce."""
        from vllm.compilation.counter import compilation_counter
        from vllm.distributed.parallel_state import get_tp_group

        runner: Any = getattr(self, "model_runner", None)
        mode = getattr(getattr(runner, "compilation_config", None), "cudagraph_mode", None)
        graphs = getattr(getattr(runner, "cudagraph_manager", None), "graphs", None) or ()
        captured = max(
            int(compilation_counter.num_cudagraph_captured), len(graphs)
        )  # one of vLLM's runners has no count
        return {
            "runner": RUNNERS.get(type(runner).__module__, "unknown"),
            "mode": getattr(mode, "name", str(mode)),
            "captured": captured,
            "all_reduce": all_reduce_of(get_tp_group().device_communicator),
        }
