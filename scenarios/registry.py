"""The scenarios: ours in an explicit list, and those that other packages register.

A package adds its own by an entry point of the group ``crashcart.scenarios`` that names a `Scenario`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from harness.errors import UsageError
from harness.spec import Scenario
from scenarios.actor_gc import SCENARIO as ACTOR_GC
from scenarios.duplicate_id import SCENARIO as DUPLICATE_ID
from scenarios.fork_after_init import SCENARIO as FORK_AFTER_INIT
from scenarios.gpu_orphans import SCENARIO as GPU_ORPHANS
from scenarios.graph_capture import SCENARIO as GRAPH_CAPTURE
from scenarios.nccl_destroy import SCENARIO as NCCL_DESTROY
from scenarios.nested_spawn import SCENARIO as NESTED_SPAWN
from scenarios.orphaned_engine import SCENARIO as ORPHANED_ENGINE

OURS: tuple[Scenario, ...] = (
    ACTOR_GC,
    DUPLICATE_ID,
    FORK_AFTER_INIT,
    GPU_ORPHANS,
    GRAPH_CAPTURE,
    NCCL_DESTROY,
    NESTED_SPAWN,
    ORPHANED_ENGINE,
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
