"""Settings with which a real vLLM engine starts soonest on a small machine, in one place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from scenarios.programs.tiny_model import tiny_model

ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What every engine here needs: no hub, no reports home, 1 GiB of KV cache, no kernel compiled at start-up."""


def prepare_environment(**more: str) -> None:
    """Set the environment before vLLM is imported; what the user has set stays."""
    for name, value in {**ENVIRONMENT, **more}.items():
        os.environ.setdefault(name, value)


def attention() -> dict[str, str]:
    """Return the attention backend: on NVIDIA GPUs Triton's, which needs no kernel compiled by nvcc at start-up."""
    return {"attention_backend": "TRITON_ATTN"} if Path("/dev/nvidiactl").exists() else {}


def engine_settings(**more: Any) -> dict[str, Any]:
    """Return keyword arguments for ``LLM`` and ``AsyncEngineArgs``: a tiny dense model, eager, short sequences."""
    return (
        {
            "model": tiny_model("dense"),
            "load_format": "dummy",
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 2048,
            "max_num_seqs": 16,
            "gpu_memory_utilization": 0.05,
            "seed": 0,
        }
        | attention()
        | more
    )
