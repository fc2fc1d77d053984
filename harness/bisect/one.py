"""Makes one run for a bisection, in a process of its own: ``python -m harness.bisect.one REQUEST.json``.

A process per run, because a supervisor owns the signals and the orphans of its process, because several runners can
work at once, and because a bisection that is killed leaves a run that still ends in an orderly way, and whose row the
next start finds.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import msgspec

from harness.bisect.command import CommandSpec, command_scenario
from harness.errors import CrashcartError, UsageError
from harness.run import Request, run
from harness.spec import Scenario
from scenarios.registry import all_scenarios


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is run at every version."""

    scenario: str
    """A name, ``module:ATTRIBUTE``, or ``command``."""
    params: dict[str, str] = {}
    command: CommandSpec | None = None
    without: tuple[str, ...] = ()


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What one version changes."""

    params: dict[str, str] = {}
    sources: dict[str, str] = {}
    """Package → wheel or URL to install instead of asking an index."""
    paths: tuple[str, ...] = ()
    env: dict[str, str | None] = {}
    prefix: tuple[str, ...] = ()
    """Put before a command, such as ``docker run IMAGE``."""
    flags: tuple[str, ...] = ()
    """Put after a command."""
    cwd: str | None = None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    target: Target
    prepared: Prepared
    out: str


def find_scenario(name: str) -> Scenario:
    """Return a registered scenario, or the one that ``module:ATTRIBUTE`` names.

    Raises:
        UsageError: If there is none.
    """
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            msg = f"no scenario {name!r}: {error}"
            raise UsageError(msg, hint="name it as module:ATTRIBUTE") from error
        if isinstance(found, Scenario):
            return found
        msg = f"{name!r} is no Scenario"
        raise UsageError(msg)
    known = {scenario.name: scenario for scenario in all_scenarios()}
    if name not in known:
        msg = f"no scenario {name!r}"
        raise UsageError(msg, hint=f"scenarios: {', '.join(known)}; or `command`, with the command after --")
    return known[name]


def scenario_of(target: Target, prepared: Prepared) -> Scenario:
    """Return the scenario of a target, with what the version changes about a command."""
    if target.command is None:
        return find_scenario(target.scenario)
    spec = target.command
    return command_scenario(
        msgspec.structs.replace(
            spec, argv=(*prepared.prefix, *spec.argv, *prepared.flags), cwd=prepared.cwd or spec.cwd
        )
    )


def main() -> int:
    """Make the run of the request; its row stands in its run directory."""
    request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RunRequest)
    prepared = request.prepared
    for name, value in prepared.env.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if prepared.paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([*prepared.paths, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    try:
        scenario = scenario_of(request.target, prepared)
        params = request.target.params | prepared.params
        full = scenario.complete(params)
        selection = {axis: (value,) for axis, value in full.items()}
        run(
            Request(
                scenarios=(scenario,),
                selection=selection,
                out=Path(request.out),
                without=frozenset(request.target.without),
                sources=prepared.sources,
                argv=tuple(sys.argv),
            )
        )
    except CrashcartError as error:
        print(f"crashcart: {error.one_line()}", file=sys.stderr)  # noqa: T201 - read by the driver
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
