"""The cells of `nccl_destroy`: which settings there are, which cell hangs, and which passes beside it."""

from __future__ import annotations

from typing import Final

SCENARIO_DEFAULTS: Final = {
    "destroy": "destroy_main", "peer": "destroys", "graphs": "0", "collective": "none", "layer": "raw",
    "vllm": "installed", "cleanup": "default", "runner": "default",
}  # fmt: skip
DIRECT: Final = "RAY_kill_child_processes_on_worker_exit"
SUBREAPER: Final = "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper"
GROUP: Final = "RAY_process_group_cleanup_enabled"
CLEANUPS: Final[dict[str, dict[str, str]]] = {
    "default": {},
    "direct": {GROUP: "false"},
    "group": {DIRECT: "false", GROUP: "true"},
    "subreaper": {DIRECT: "false", GROUP: "false", SUBREAPER: "true"},
    "off": {DIRECT: "false", GROUP: "false"},
}
"""Ray's settings for what a killed actor has started.

By default Ray kills the actor's own children and, from 2.57 on, its process group, which the workers of an engine are
in. Seen with 2.60.
"""
RUNNERS: Final[dict[str, dict[str, str]]] = {
    "default": {},
    "v1": {"VLLM_USE_V2_MODEL_RUNNER": "0"},
    "v2": {"VLLM_USE_V2_MODEL_RUNNER": "1"},
}
"""vLLM's setting for the model runner; without it a dense model has v1 in 0.21 and 0.22, and v2 in 0.26."""
OLD_IN_RAY: Final = {"layer": "ray_tp2", "graphs": "1", "destroy": "shipped", "vllm": "0.21.0", "runner": "v2"}
PAIRS: Final[tuple[tuple[dict[str, str], tuple[dict[str, str], ...], tuple[str, ...]], ...]] = (
    ({"graphs": "1"}, ({}, {"graphs": "1", "destroy": "abort_thread"}), ("laptop", "gpu2", "rocm")),
    (
        {"destroy": "abort_main", "graphs": "8", "peer": "SIGKILL"},
        ({"destroy": "none", "graphs": "8", "peer": "SIGKILL"},),
        ("gpu2",),
    ),
    (
        {"peer": "SIGKILL", "collective": "pending"},
        ({"peer": "SIGKILL"}, {"peer": "SIGKILL", "collective": "pending", "destroy": "abort_main"}),
        ("gpu2", "rocm"),
    ),
    ({"layer": "pynccl", "graphs": "1"}, ({"layer": "pynccl", "graphs": "1", "destroy": "shipped"},), ("gpu2",)),
    ({"destroy": "abort_main", "graphs": "1"}, ({"destroy": "abort_main"},), ()),
    ({"graphs": "8", "peer": "alive"}, ({"graphs": "8", "peer": "alive", "destroy": "none"},), ()),
    ({"peer": "alive"}, ({"peer": "alive", "destroy": "abort_main"}, {"peer": "exits"}), ()),
    ({"peer": "SIGSTOP"}, ({"peer": "SIGSTOP", "destroy": "abort_main"},), ()),
    (
        {"graphs": "1", "peer": "SIGKILL"},
        ({"graphs": "1", "peer": "SIGKILL", "destroy": "abort_thread"},),
        (),
    ),
    (
        {"layer": "pynccl", "graphs": "1", "destroy": "shipped", "vllm": "0.21.0"},
        ({"layer": "pynccl", "graphs": "1", "destroy": "shipped", "vllm": "0.22.0"},),
        (),
    ),
    (
        {"layer": "vllm_tp2", "graphs": "1", "destroy": "shipped", "vllm": "0.21.0", "runner": "v2"},
        (
            {"layer": "vllm_tp2", "graphs": "1", "destroy": "shipped", "vllm": "0.22.0", "runner": "v2"},
            {"layer": "vllm_tp2", "graphs": "1", "destroy": "shipped", "vllm": "0.21.0", "runner": "v1"},
        ),
        (),
    ),
    (
        {"peer": "alive", "collective": "pending"},
        ({"peer": "alive", "collective": "pending", "destroy": "abort_main"},),
        (),
    ),
    (
        {"layer": "ray_tp2", "graphs": "1", "destroy": "shipped", "cleanup": "off"},
        tuple(
            {"layer": "ray_tp2", "graphs": "1", "destroy": "shipped"} | cleanup
            for cleanup in ({}, {"cleanup": "direct"}, {"cleanup": "subreaper"}, {"cleanup": "group"})
        ),
        (),
    ),
    (
        OLD_IN_RAY | {"cleanup": "direct"},
        (OLD_IN_RAY, OLD_IN_RAY | {"cleanup": "group"}),
        (),
    ),
)
"""Cells that hang, each with what is the same but for one thing and passes, and the short suites they are in."""
