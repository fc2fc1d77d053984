"""From what the user asked for to the settings of a bisection, and the refusal of what the budget cannot answer."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bisect.axes import images, nightlies, ordered, release, releases_of, vectors, wheels
from harness.bisect.command import CommandSpec
from harness.bisect.commits import commits
from harness.bisect.forecast import Forecast, bound, forecast
from harness.bisect.history import Candidate
from harness.bisect.knobs import Knob
from harness.bisect.one import Target, find_scenario
from harness.bisect.search import Posterior
from harness.bisect.steps import Settings, View
from harness.errors import UsageError
from harness.spec import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the command line says about the axis."""

    axis: str | None = None
    versions: str | None = None
    wheels: Path | None = None
    dates: str | None = None
    template: str | None = None
    vector: Path | None = None
    images: str | None = None
    git: Path | None = None
    build: str | None = None
    artefact: str | None = None
    good: str | None = None
    bad: str | None = None
    pre: bool = False


def target_of(scenario: str, params: dict[str, str], command: CommandSpec | None, without: Sequence[str]) -> Target:
    """Return the target, having checked that it exists.

    Raises:
        UsageError: If there is no such scenario, axis or command.
    """
    if scenario == "command":
        if command is None or not command.argv:
            msg = "`command` needs the command itself"
            raise UsageError(msg, hint="crashcart bisect command … -- CMD ARG…")
        return Target(scenario=scenario, command=command, without=tuple(without))
    if command is not None:
        msg = f"a command goes with the scenario `command`, not with {scenario!r}"
        raise UsageError(msg)
    find_scenario(scenario).complete(params)
    return Target(scenario=scenario, params=params, without=tuple(without))


def candidates_of(target: Target, ask: Ask) -> tuple[list[Candidate], dict[str, str]]:
    """Return the candidates in their order in time, and the axis as ``bisect.json`` describes it.

    Raises:
        UsageError: If there is not exactly one axis, or it cannot be listed.
    """
    kinds = [ask.git is not None, ask.images is not None, ask.vector is not None, ask.axis is not None]
    if sum(kinds) != 1:
        msg = "a bisection needs exactly one of --axis, --git, --vector, --images and --knobs"
        raise UsageError(msg, hint="example: crashcart bisect actor_gc --axis verl --first-fixed")
    if ask.git is not None:
        if ask.good is None or ask.bad is None:
            msg = "--git needs --good COMMIT and --bad COMMIT"
            raise UsageError(msg)
        described = {"kind": "commits", "repository": str(ask.git.absolute())}
        described |= {"build": ask.build} if ask.build else {}
        described |= {"artefact": ask.artefact} if ask.artefact else {}
        return commits(ask.git, ask.good, ask.bad), described
    if ask.images is not None:
        if target.command is None:
            msg = "images need the scenario `command`: crashcart itself stays outside of them"
            raise UsageError(msg)
        return images([name.strip() for name in ask.images.split(",")]), {"kind": "images"}
    scenario = None if target.command is not None else find_scenario(target.scenario)
    if ask.vector is not None:
        found = vectors(ask.vector)
        packages = {key.removeprefix("package:") for one in found for key in one.source}
        return found, _packages(scenario, packages)
    package = _package(scenario, ask.axis or "")
    return _releases(package, ask), _packages(scenario, {package})


def _releases(package: str, ask: Ask) -> list[Candidate]:
    if ask.wheels is not None:
        return wheels(package, ask.wheels)
    if ask.dates is not None:
        return nightlies(package, ask.dates, ask.template or "")
    if ask.versions is not None:
        return [release(package, one) for one in ordered(part.strip() for part in ask.versions.split(","))]
    return [release(package, one) for one in ordered(releases_of(package, pre=ask.pre))]


def _package(scenario: Scenario | None, axis: str) -> str:
    found = scenario.axis(axis) if scenario is not None else None
    if found is not None and found.package is None:
        msg = f"axis {axis} of {scenario.name if scenario else ''} is no version axis"
        raise UsageError(msg, hint="for the values of other axes: --knobs FILE")
    return found.package if found is not None and found.package is not None else axis


def _packages(scenario: Scenario | None, packages: set[str]) -> dict[str, str]:
    axes = {axis.package: axis.name for axis in scenario.axes if axis.package} if scenario is not None else {}
    return {"kind": "packages"} | {f"axis:{package}": axes[package] for package in packages if package in axes}


def expected_s(target: Target) -> float:
    """Return how long a run usually takes, in seconds, as far as the scenario says."""
    from harness.probes.machine import read_environment

    if target.command is not None:
        return 10.0
    scenario = find_scenario(target.scenario)
    return scenario.launch(scenario.complete(target.params), read_environment(frozenset(target.without))).expected_s


def first_forecast(settings: Settings) -> Forecast:
    """Return the forecast before the first run; of an unknown rate, averaged over what is believed of it."""
    view = View.of(settings, ())
    return forecast(Posterior.start(view.slots.weights(), settings.belief), view.costs, settings.threshold)


def refusal(settings: Settings, one: Forecast) -> str | None:
    """Return why the budget cannot answer, or ``None``.

    With a known rate no method needs fewer runs than the capacity of the channel allows. With an unknown one only the
    forecast after the ends says something; the search stops when the budget is spent in any case.
    """
    size = len(settings.history.candidates) - 1
    least = bound(size, settings.rate) if settings.rate is not None else bound(size, 1.0)
    if settings.budget_runs is not None and settings.budget_runs < least:
        rate = f"a rate of {settings.rate:g}" if settings.rate is not None else "any rate"
        return (
            f"the budget of {settings.budget_runs} runs cannot tell {size} candidates apart at {rate}: no method needs "
            f"fewer than {least:.0f} on average; about {one.runs_p50} are to be expected"
        )
    if settings.budget_s is not None and settings.rate is not None and settings.budget_s < least * settings.passing_s:
        hours = least * settings.passing_s / 3600
        return f"the budget of {settings.budget_s / 3600:.3g} h is too short: the least is {hours:.3g} h"
    return None


def read_knobs(path: Path) -> tuple[Knob, ...]:
    """Read the knobs of a TOML file: tables ``env``, ``axis`` and ``flag``, each knob with ``failing`` and ``passing``.

    Raises:
        UsageError: If it cannot be read that way.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        msg = f"cannot read {path}: {error}"
        raise UsageError(msg, hint='example: [env.VLLM_LOGGING_LEVEL]  failing = "DEBUG"  passing = "INFO"') from error
    unknown = table.keys() - {"env", "axis", "flag"}
    if unknown:
        msg = f"{path}: unknown table {min(unknown)!r}"
        raise UsageError(msg, hint="tables: env, axis, flag")
    knobs = []
    for kind in ("env", "axis", "flag"):
        for name, values in table.get(kind, {}).items():
            failing, passing = (_value(values, side, kind) for side in ("failing", "passing"))
            if failing == passing:
                msg = f"{path}: {name} has the same value on both sides"
                raise UsageError(msg, hint="a knob differs between the two configurations")
            knobs.append(Knob(name=name, kind=kind, failing=failing, passing=passing))
    if not knobs:
        msg = f"{path} names no knob"
        raise UsageError(msg)
    return tuple(knobs)


def _value(values: dict[str, Any], side: str, kind: str) -> str | None:
    value = values.get(side)
    if kind == "flag" and isinstance(value, bool):
        return "" if value else None
    return None if value is None else str(value)
