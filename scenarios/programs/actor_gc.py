"""Calls a verl worker group whose parent group has been dropped (verl#1138, fixed by verl#1443).

``RayWorkerGroup.spawn`` of verl before 0.4.0 looks its workers up by name, which gives weak handles: once the parent
group is collected, Ray ends the actors under the spawned group. Everything of verl and Ray here is real and unpatched,
and the same program runs on every release.

Nothing may refer to the parent by accident, so its only reference is the one item of a list. The group is part of a
reference cycle (it holds closures that hold it), so dropping the name alone frees nothing: Python's cyclic garbage
collector decides when the actors die. ``parent_dropped`` tells whether it had by then.
"""

from __future__ import annotations

import gc
import platform
import time
import weakref
from pathlib import Path
from typing import Any, Final

import ray
import verl
from ray.util import list_named_actors
from verl.single_controller.base import Worker as VerlWorker
from verl.single_controller.base.decorator import Dispatch, Execute, register
from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup
from verl.single_controller.ray.base import create_colocated_worker_cls

from harness import child
from scenarios.programs.local_ray import local_ray

ROLE: Final = "rollout"
IDLE_S: Final = 2.0
"""Pause between dropping the parent and calling, in seconds; Ray needs about 0.1 s to end an actor."""
CALL_S: Final = 4.0
"""Duration of the call that is in flight, in seconds."""
ANSWER_S: Final = 30.0
"""How long an answer may take, in seconds."""


class Worker(VerlWorker):  # type: ignore[misc]
    """A base worker whose constructor asks no GPU for its name, as that of verl 0.3.0 does.

    The class keeps the name of verl's own: since 0.4.0 `create_colocated_worker_cls` looks for it.
    """

    def __init__(self) -> None:
        """Do nothing: the calls below need no ranks."""


class RolloutWorker(Worker):
    """What a user's worker looks like."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, execute_mode=Execute.ALL, blocking=True)  # type: ignore[untyped-decorator]
    def echo(self, word: str) -> str:
        """Return the word."""
        return word

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, execute_mode=Execute.ALL, blocking=False)  # type: ignore[untyped-decorator]
    def work(self, seconds: float, started: str) -> str:
        """Create the file ``started``, then take the given time."""
        Path(started).touch()
        time.sleep(seconds)
        return "worked"


def build_parent(*, detached: bool) -> Any:
    """Make the group that owns the actor, in the way in which verl's trainers do."""
    remote = ray.remote(RolloutWorker)
    colocated = create_colocated_worker_cls(class_dict={ROLE: RayClassWithInitArgs(cls=remote)})
    pool = RayResourcePool(process_on_nodes=[1], use_gpu=False, max_colocate_count=1, detached=detached)
    return RayWorkerGroup(resource_pool=pool, ray_cls_with_init=colocated, detached=detached)


def drop(held: list[Any], *, collect: bool) -> None:
    """Drop the only reference to the parent and record whether that alone, or the collection, freed it."""
    gone = weakref.ref(held[0])
    held.clear()
    freed_by_refcount = gone() is None
    unreachable = gc.collect() if collect else 0
    child.mark(
        "parent_dropped",
        gc="collect" if collect else "none",
        freed_by_refcount=freed_by_refcount,
        freed=gone() is None,
        unreachable=unreachable,
    )


def call_in_flight(spawned: Any) -> Any:
    """Start a long call through the spawned group and return its references once the worker is executing it."""
    started = child.scratch() / "started"
    references = spawned.work(CALL_S, str(started))
    with child.phase("call_start"):
        deadline = time.monotonic() + ANSWER_S
        while not started.exists():
            if time.monotonic() > deadline:
                msg = f"the worker did not start the call within {ANSWER_S} s"
                raise TimeoutError(msg)
            time.sleep(0.02)
    child.mark("call_running", seconds=CALL_S)
    return references


def observe_call(prefix: str, spawned: Any, references: Any) -> None:
    """Wait for a running call, or make a short one, and record as ``<prefix>_result`` or ``<prefix>_failed``."""
    begin = time.monotonic()
    try:
        with child.phase(prefix):
            pending = references or spawned.execute_all_async(f"{ROLE}_echo", "hello")
            answer = ray.get(pending, timeout=ANSWER_S)
    except ray.exceptions.RayError as error:
        child.observe_error(f"{prefix}_failed", error)
    else:
        child.mark(f"{prefix}_result", answer=answer, seconds=round(time.monotonic() - begin, 3))


def observe_names(names: list[str]) -> None:
    """Record whether Ray still knows the actors by name, and what a look-up of the first one says."""
    listed = set(list_named_actors())
    child.mark("named_actors", names=[*names], listed=[name in listed for name in names])
    try:
        handle = ray.get_actor(names[0])
    except ValueError as error:
        child.observe_error("lookup_failed", error)
    else:
        child.mark("lookup_result", weak=handle._ray_weak_ref)  # noqa: SLF001 - Ray tells it in no other way


def observe_handles(spawned: Any) -> None:
    """Record whether the handles of the spawned group keep their actors alive."""
    weak = [bool(worker._ray_weak_ref) for worker in spawned.workers]  # noqa: SLF001 - as above
    child.mark("handles", weak=all(weak), each=[*weak])


def run(settings: dict[str, str]) -> None:
    """Build, spawn, drop, call."""
    with child.phase("build"):
        held = [build_parent(detached=settings["lifetime"] == "detached")]
        spawned = held[0].spawn({ROLE})[ROLE]
        answer = spawned.echo("hello")
    child.mark("spawned", names=[*spawned.worker_names], answer=answer)
    observe_handles(spawned)
    references = call_in_flight(spawned) if settings["call"] == "in_flight" else None
    if settings["keep_parent"] == "false":
        drop(held, collect=settings["gc"] == "collect")
    if references is None:
        time.sleep(IDLE_S)
    observe_call("call", spawned, references)
    if references is not None:
        time.sleep(IDLE_S)  # the actor ends after its answer; a call at once was answered in its last moment, once
        observe_call("later_call", spawned, None)
    observe_names(list(spawned.worker_names))


def main() -> None:
    """Run the cell; a call that fails is an observation, and any other failure ends the program."""
    child.mark("versions", verl=verl.__version__, ray=ray.__version__, python=platform.python_version())
    defaults = {"keep_parent": "false", "gc": "collect", "call": "idle", "lifetime": "default"}
    with local_ray(logical_cpus=2):
        run(defaults | child.params())
    child.finish()


if __name__ == "__main__":
    main()
