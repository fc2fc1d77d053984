"""From a configuration to the cells of one night, with the versions that float tonight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

import msgspec

from harness.bisect.axes import releases_of
from harness.bisect.one import find_scenario
from harness.errors import CrashcartError, ExitCode
from harness.nightly.config import NEWEST, Block, Config, floating, values_of
from harness.plan import Cell, cell_at, plan
from harness.spec import Environment
from scenarios.registry import all_scenarios


class NightError(CrashcartError):
    """A night cannot be begun: there is no verdict."""

    exit_code = ExitCode.NO_VERDICT


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of a night."""

    cell: Cell
    track: str
    target: str
    """How its scenario is found again: a name, or ``module:ATTRIBUTE``."""
    repeat: int = 1


def versions_tonight(config: Config) -> dict[str, str]:
    """Return package → release, with the newest ones looked up.

    Raises:
        NightError: If the newest release cannot be told.
    """
    found = dict(config.versions)
    for package, asked in config.versions.items():
        if asked not in NEWEST:
            continue
        try:
            found[package] = releases_of(package, pre=asked == "newest-pre")[-1]
        except CrashcartError as error:
            msg = f"the newest {package} is not known: {error}"
            raise NightError(msg, hint=f"is the package index reachable? or pin it: {package} = VERSION") from error
    return found


def planned(config: Config, versions: Mapping[str, str], environment: Environment) -> tuple[Planned, ...]:
    """Return the cells of a night in the order of the blocks; one that two blocks have is run once."""
    found: dict[str, Planned] = {}
    for block in config.run:
        for one in _suite(block, environment) if block.suite else _points(config, block, versions, environment):
            found.setdefault(one.cell.id, one)
    return tuple(found.values())


def _suite(block: Block, environment: Environment) -> Iterator[Planned]:
    for cell in plan(all_scenarios(), environment, suite=block.suite):
        needed = cell.needed and not block.optional
        yield Planned(
            cell=msgspec.structs.replace(cell, needed=needed),
            track=cell.id,
            target=cell.scenario,
            repeat=block.repeat,
        )


def _points(config: Config, block: Block, versions: Mapping[str, str], environment: Environment) -> Iterator[Planned]:
    target = block.scenario or ""
    scenario = find_scenario(target)
    floats = floating(config, block, scenario)
    tonight = {axis.name: versions[package] for package, axis in floats.items()}
    for values in product(*map(values_of, block.params.values())):
        params = scenario.complete(dict(zip(block.params, values, strict=True)) | tonight)
        cell = cell_at(scenario, params, environment)
        yield Planned(
            cell=msgspec.structs.replace(cell, needed=not block.optional),
            track=scenario.cell_id(params | dict.fromkeys(tonight, "*")),
            target=target,
            repeat=block.repeat,
        )


def tracks(cells: Iterable[Planned]) -> dict[str, str]:
    """Return cell → track, for the cells in which a version floats."""
    return {one.cell.id: one.track for one in cells if one.track != one.cell.id}
