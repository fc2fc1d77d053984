"""What a process of a serving stack is, by its title."""

from __future__ import annotations

import re
from typing import Final

ROLES: Final[tuple[tuple[str, str], ...]] = (
    ("engine_core", r"VLLM::EngineCore"),
    ("worker", r"VLLM::Worker"),
    ("dp_coordinator", r"VLLM::DPCoordinator"),
    ("api_server", r"VLLM::APIServer|.*vllm.*\bserve\b|.*vllm\.entrypoints\.(openai\.api_server|cli\.main)"),
    ("api_server", r".*sglang\.launch_server"),
    ("sglang_scheduler", r"sglang::scheduler"),
    ("sglang_detokenizer", r"sglang::detokenizer"),
    ("ray_gcs", r"\S*gcs_server"),
    ("ray_raylet", r"\S*raylet/raylet|raylet"),
    ("ray_agent", r"ray-dashboard|.*ray/dashboard/|.*ray/_private/runtime_env/agent"),
    ("ray_agent", r"ray::(RuntimeEnv|Dashboard)Agent"),
    ("ray_log_monitor", r".*ray/_private/log_monitor"),
    ("ray_monitor", r".*ray/autoscaler/_private/monitor"),
    ("ray_idle", r"ray::IDLE"),
    ("ray_worker", r"ray::|.*ray/_private/workers/default_worker"),
    ("resource_tracker", r".*multiprocessing\.resource_tracker"),
    ("forkserver", r".*multiprocessing\.forkserver"),
    ("spawned", r".*multiprocessing\.spawn"),
    ("compiler", r"(\S*/)?(cc1plus|cc1|g\+\+|gcc|clang(\+\+)?|hipcc|ninja|lld|ld|as)(-\d+)?(?![\w+])"),
    ("compiler", r"(\S*/)?(nvcc|cudafe\+\+|cicc|ptxas|nvlink|fatbinary)(?![\w+])"),
    ("shell", r"(\S*/)?(ba|da|z)?sh\b"),
)


def role(name: str) -> str:
    """Return the role of a process by its last title; ``other`` if it is not known."""
    return next((title for title, pattern in ROLES if re.match(pattern, name)), "other")
