"""The scenarios: ours in an explicit list, and those that other packages register.

A package adds its own by an entry point of the group ``crashcart.scenarios`` that names a `Scenario`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from harness.errors import UsageError
from harness.spec import Scenario
from scenarios.actor_gc import SCENARIO as ACTOR_GC
from scenarios.dp_ep_deadlock import SCENARIO as DP_EP_DEADLOCK
from scenarios.fork_after_init import SCENARIO as FORK_AFTER_INIT
from scenarios.gpu_orphans import SCENARIO as GPU_ORPHANS
from scenarios.graph_capture import SCENARIO as GRAPH_CAPTURE
from scenarios.nccl_destroy import SCENARIO as NCCL_DESTROY
from scenarios.nested_spawn import SCENARIO as NESTED_SPAWN
from scenarios.orphaned_engine import SCENARIO as ORPHANED_ENGINE
from scenarios.port_race import SCENARIO as PORT_RACE
from scenarios.ray_memory_kill import SCENARIO as RAY_MEMORY_KILL
from scenarios.ray_visible_devices import SCENARIO as RAY_VISIBLE_DEVICES
from scenarios.rollout import SCENARIO as ROLLOUT
from scenarios.rpc_timeout import SCENARIO as RPC_TIMEOUT
from scenarios.shm_leak import SCENARIO as SHM_LEAK
from scenarios.shm_stall import SCENARIO as SHM_STALL
from scenarios.sleep_residue import SCENARIO as SLEEP_RESIDUE
from scenarios.startup_interrupt import SCENARIO as STARTUP_INTERRUPT
from scenarios.timeout_retries import SCENARIO as TIMEOUT_RETRIES

OURS: tuple[Scenario, ...] = (
    ACTOR_GC,
    DP_EP_DEADLOCK,
    FORK_AFTER_INIT,
    GPU_ORPHANS,
    GRAPH_CAPTURE,
    NCCL_DESTROY,
    NESTED_SPAWN,
    ORPHANED_ENGINE,
    PORT_RACE,
    RAY_MEMORY_KILL,
    RAY_VISIBLE_DEVICES,
    ROLLOUT,
    RPC_TIMEOUT,
    SHM_LEAK,
    SHM_STALL,
    SLEEP_RESIDUE,
    STARTUP_INTERRUPT,
    TIMEOUT_RETRIES,
)


def all_scenarios() -> tuple[Scenario, ...]:
    """Return all scenarios, ours first.

    Raises:
        UsageError: If a registered scenario cannot be loaded or takes a name that is in use.
    """
    found = {scenario.name: scenario for scenario in OURS}
    for point in entry_points(group="crashcart.scenarios"):
        try:
            scenario = point.load()
        except Exception as error:
            msg = f"scenario {point.name!r} of {point.value!r} cannot be loaded: {error}"
            raise UsageError(msg, hint="mend or uninstall the package that registers it") from error
        if not isinstance(scenario, Scenario) or scenario.name in found:
            msg = f"{point.value!r} is no Scenario, or its name is taken"
            raise UsageError(msg, hint="each scenario needs a name of its own")
        found[scenario.name] = scenario
    return tuple(found.values())
