"""A worker extension of vLLM that says in which mode the worker's CUDA graphs really are, and how many there are."""

from __future__ import annotations

from typing import Any


class GraphExtension:
    """Reads, and changes nothing; reached by ``collective_rpc``."""

    def graph_state(self) -> dict[str, Any]:
        """Return which model runner this is, the mode that it ended up with, and how many graphs were captured."""
        from vllm.compilation.counter import compilation_counter

        runner: Any = getattr(self, "model_runner", None)
        mode = getattr(getattr(runner, "compilation_config", None), "cudagraph_mode", None)
        graphs = getattr(getattr(runner, "cudagraph_manager", None), "graphs", None) or ()
        captured = max(
            int(compilation_counter.num_cudagraph_captured), len(graphs)
        )  # one of vLLM's runners has no count
        newer = type(runner).__module__ == "vllm.v1.worker.gpu.model_runner"
        return {"mode": getattr(mode, "name", str(mode)), "captured": captured, "runner": "v2" if newer else "v1"}
