"""Shows which GPUs Ray gives two actors, and which ones the processes see that these actors start.

The GPUs are logical: Ray hands out numbers that it was told, on any machine. What counts is the variable in the
environment of a process that the actor starts, since that is where an engine runs; /proc of the actor itself shows the
environment that its raylet had.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any, Final

import ray

from harness import child
from scenarios.programs.local_ray import local_ray

VARIABLE: Final = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES"}
ACTORS: Final = 2
ANSWER_S: Final = 60.0
DEFAULTS: Final = {"num_gpus": "1", "vendor": "nvidia", "device": "logical"}


class Host:
    """What hosts an engine in verl and its kin."""

    def devices(self, variable: str) -> dict[str, Any]:
        """Return what Ray assigned, what stands in this process, and what a child of it finds in its environment."""
        printed = subprocess.run(["printenv", variable], capture_output=True, text=True, check=False)
        return {
            "assigned": [str(one) for one in ray.get_runtime_context().get_accelerator_ids()["GPU"]],
            "here": os.environ.get(variable),
            "child": printed.stdout.rstrip("\n") if printed.returncode == 0 else None,
            "pid": os.getpid(),
        }

    def manager(self) -> str:
        """Return which vendor Ray takes the GPUs of this machine for."""
        from ray._private import accelerators

        return str(accelerators.get_accelerator_manager_for_resource("GPU").__name__)

    def first_device(self) -> str:
        """Return the identity of the GPU that an engine without further wishes takes; needs one."""
        import torch

        return str(torch.cuda.get_device_properties(0).uuid)


def ask(settings: dict[str, str], variable: str) -> None:
    """Ask two actors that hold what the cell says."""
    remote = ray.remote(num_cpus=0.1, num_gpus=float(settings["num_gpus"]))(Host)
    with child.phase("actors"):
        actors = [remote.remote() for _ in range(ACTORS)]
        child.mark("manager", manager=ray.get(actors[0].manager.remote(), timeout=ANSWER_S))
        for answer in ray.get([actor.devices.remote(variable) for actor in actors], timeout=ANSWER_S):
            child.mark("actor", **answer)
    if settings["device"] == "real":
        with child.phase("real_devices"):
            uuids = ray.get([actor.first_device.remote() for actor in actors], timeout=ANSWER_S)
        child.mark("first_devices", uuids=[*uuids])


def main() -> None:
    """Start Ray under the variable that a scheduler would have set, with two GPUs; what fails is an observation."""
    settings = DEFAULTS | child.params()
    variable = VARIABLE[settings["vendor"]]
    child.mark("host", ray=ray.__version__, variable=variable, visible=os.environ.get(variable))
    try:
        with local_ray(logical_cpus=ACTORS, logical_gpus=ACTORS):
            ask(settings, variable)
    except Exception as error:  # noqa: BLE001 - whatever kept the actors from their devices is what the cell is about
        child.observe_error("failed", error)
    child.finish()


if __name__ == "__main__":
    main()
