"""What a trainer adds to vLLM's worker by ``worker_extension_cls``; a real one, reached by ``collective_rpc``."""

from __future__ import annotations

import os
from typing import Any


class ProbeExtension:
    """Says where the worker runs, as verl's colocated extension does with its own methods."""

    def probe_worker(self) -> dict[str, Any]:
        """Return the pid and rank of the worker and the class that it was mixed into."""
        return {"pid": os.getpid(), "rank": int(getattr(self, "rank", -1)), "cls": type(self).__name__}

    def parallel_sizes(self) -> dict[str, Any]:
        """Return over how many ranks data and experts are really shared, as the loaded layers have it.

        Not from the process groups: vLLM makes a group for the experts also where they are not shared.
        """
        from vllm.distributed.parallel_state import get_dp_group

        model = self.model_runner.model  # type: ignore[attr-defined] # of the worker that this is mixed into
        layers = [module.moe_config for module in model.modules() if hasattr(module, "moe_config")]
        experts = layers[0].ep_size if layers else 1
        return {"dp": get_dp_group().world_size, "ep": experts, "layers": len(layers)}
