"""What the TOML file of a nightly may say."""

from __future__ import annotations

from typing import Final

import msgspec

from harness.spec import Axis, Scenario

NEWEST: Final = ("newest", "newest-pre")


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[run]]``: a suite as it stands, or cells of one scenario."""

    suite: str | None = None
    scenario: str | None = None
    """A name, or ``module:ATTRIBUTE``."""
    params: dict[str, str | tuple[str, ...]] = {}
    """Values of axes; every combination of them is a cell. Version axes that are not named here float."""
    repeat: int = 1
    optional: bool = False
    """Whether the exit code does not mind that a cell cannot run here."""


class Bisecting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bisect]``: what may be spent on naming a culprit, each night."""

    enabled: bool = True
    hours: float = 4.0
    runs: int = 100
    """Of one bisection."""
    candidates: dict[str, tuple[str, ...]] = {}
    """Package → versions to search among; default: all that the index has."""


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[notify]``: a command that gets the summary as JSON on its standard input."""

    command: tuple[str, ...]
    always: bool = False
    """Also when there is no news."""
    seconds: float = 60.0


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[keep]``: how long runs stay; those with a first failure stay for good."""

    days: int


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bundle]``: for whom a report of each new failure is packed."""

    vendor: str = msgspec.field(name="for")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A nightly."""

    run: tuple[Block, ...]
    name: str = ""
    """Default: the name of the file."""
    state: str = ""
    """Folder for runs, history and nights, from the file on; default: the name."""
    lock: str = ""
    """File that one nightly at a time holds; default: in the state folder. Name one for the whole machine."""
    resume_hours: float = 12.0
    """A night that was cut short is gone on with for so long; later a new one begins."""
    prepare: tuple[str, ...] = ()
    """A command that brings the environment up to date before anything else, such as ``uv pip install -U vllm``."""
    prepare_minutes: float = 60.0
    versions: dict[str, str] = {}
    """Package → ``newest``, ``newest-pre`` or a release, for the axes that float."""
    without: tuple[str, ...] = ()
    bisect: Bisecting = Bisecting()
    notify: Notify | None = None
    keep: Keep | None = None
    bundle: Bundle | None = None


def floating(config: Config, block: Block, scenario: Scenario) -> dict[str, Axis]:
    """Return package → version axis of the axes that float in a block."""
    versioned = ((axis.package, axis) for axis in scenario.axes if axis.package is not None)
    return {
        package: axis for package, axis in versioned if package in config.versions and axis.name not in block.params
    }


def values_of(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of one axis, whether one was given or several."""
    return (value,) if isinstance(value, str) else value
