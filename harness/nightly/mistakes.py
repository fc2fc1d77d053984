"""What is wrong with a configuration: every mistake, each with its place and what would be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec

from harness.bisect.one import find_scenario
from harness.errors import UsageError
from harness.nightly.config import NEWEST, Block, Config, values_of
from harness.plan import VERSION
from harness.spec import SUITE_NAMES


def of_form(raw: Mapping[str, Any], kind: type[msgspec.Struct], where: str = "") -> Iterator[str]:
    """Yield what does not fit the types, each with its place, and all of it: msgspec alone stops at the first."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in sorted(raw.keys() - fields.keys()):
        yield f"{where}{name}: no such key here; there are {', '.join(fields)}"
    for name, field in fields.items():
        if name in raw:
            yield from _of_field(raw[name], field.type, name, where)
        elif field.required:
            yield f"{where}{name} is missing"


def _of_field(value: object, kind: Any, name: str, where: str) -> Iterator[str]:  # noqa: ANN401 - a type, of any form
    place = f"{where}{name}"
    inner = next((one for one in (kind, *get_args(kind)) if _is_struct(one)), None)
    if inner is None:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            said = str(error).replace(" - at `$", ", at `")
            yield f"{place}: {said[:1].lower()}{said[1:]}"
    elif get_origin(kind) is not tuple:
        if isinstance(value, dict):
            yield from of_form(value, inner, f"{place}.")
        else:
            yield f"{place}: must be a table, written [{name}]"
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, one in enumerate(value, 1):
            yield from of_form(one, inner, f"{name} {number}: ")
    else:
        yield f"{place}: must be tables, written [[{name}]]"


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def of_meaning(config: Config) -> Iterator[str]:
    """Yield what makes no sense, each with its place."""
    for number, block in enumerate(config.run, 1):
        for text in _of_block(block):
            yield f"run {number}: {text}"
    yield from _of_versions(config)
    if config.bisect.hours <= 0 or config.bisect.runs < 1:
        yield "bisect: hours and runs must be above 0; enabled = false switches it off"
    if config.keep is not None and config.keep.days < 1:
        yield "keep.days: must be at least 1"
    if config.notify is not None and not config.notify.command:
        yield "notify.command: is empty"


def _of_versions(config: Config) -> Iterator[str]:
    packages = {package for block in config.run if block.scenario for package in _packages_of(block.scenario)}
    for package, version in config.versions.items():
        if version not in NEWEST and not VERSION.fullmatch(version):
            yield f"versions.{package}: {version!r} is neither a release nor one of {', '.join(NEWEST)}"
        if package not in packages:
            yield f"versions.{package}: no scenario of a [[run]] has a version axis for {package}"
    for package, versions in config.bisect.candidates.items():
        wrong = [version for version in versions if not VERSION.fullmatch(version)]
        if wrong:
            yield f"bisect.candidates.{package}: {wrong[0]!r} is no release"


def _of_block(block: Block) -> Iterator[str]:
    if block.repeat < 1:
        yield "repeat: must be at least 1"
    if (block.suite is None) is (block.scenario is None):
        yield "needs a suite or a scenario, and not both"
    elif block.suite is None:
        yield from _of_points(block)
    elif block.suite not in SUITE_NAMES:
        yield f"no suite {block.suite!r}; suites: {', '.join(SUITE_NAMES)}"
    elif block.params:
        yield "params: go with a scenario; a suite is run as it stands"


def _of_points(block: Block) -> Iterator[str]:
    try:
        scenario = find_scenario(block.scenario or "")
    except UsageError as error:
        yield error.one_line()
        return
    for name, value in block.params.items():
        axis = scenario.axis(name)
        if axis is None:
            axes = ", ".join(axis.name for axis in scenario.axes)
            yield f"params.{name}: {scenario.name} has no such axis; its axes: {axes}"
            continue
        for one in values_of(value):
            if one not in axis.values and not (axis.package and VERSION.fullmatch(one)):
                yield f"params.{name}: no value {one!r}; its values: {', '.join(axis.values)}"


def _packages_of(name: str) -> set[str]:
    try:
        return {axis.package for axis in find_scenario(name).axes if axis.package}
    except UsageError:
        return set()
