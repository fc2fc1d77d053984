"""What a scenario states: axes, cells, expectations, what to run, which faults, and its oracle. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from harness.attempt import Attempt, Judgement
from harness.errors import UsageError
from harness.outcome import Kind, VerdictName

Params = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A knob with its values; the first value is the default.

    An axis with ``package`` is a version axis: values that are not listed are accepted when they are well-formed
    versions or name a place (`names_place`), and the cell then runs with that release of the package.
    """

    name: str
    values: tuple[str, ...]
    doc: str
    package: str | None = None
    shown: bool = False
    """Whether cell ids name it even at its default."""

    @property
    def default(self) -> str:
        """The value that a cell has where nothing else is said."""
        return self.values[0]


def names_place(value: str) -> bool:
    """Whether a value of a version axis is a wheel or a checkout, by its form: a path or the address of a wheel."""
    return "/" in value or value in {".", ".."} or value.endswith(".whl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the machine is and can do, as far as expectations and requirements need it. Read once per run."""

    python: str
    system: str
    kernel: str
    architecture: str
    cores: int
    memory_mib: int
    cpu_flags: frozenset[str]
    packages: Mapping[str, str]
    """Installed distributions, normalised name to version."""
    gpus: tuple[str, ...] = ()
    rocm: str | None = None
    without: frozenset[str] = frozenset()
    """Capabilities that the user took away by ``--without``."""

    def has(self, package: str) -> bool:
        """Whether a distribution is installed (and was not taken away)."""
        return package in self.packages and package not in self.without


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The verdict expected of a cell, and the mechanism or upstream thread that it is expected for."""

    verdict: VerdictName
    reason: str
    signature: str | None = None
    """A substring that the signature must have, where the class of failure matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSignal:
    """A signal to the first process whose title matches ``target`` (a regular expression, from the beginning).

    ``SIGSTOP`` lasts and is undone by ``SIGCONT``; every other signal is done when it is delivered.
    """

    signal: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FillShm:
    """A full tmpfs: all but ``leave_bytes`` of a folder's file system is allocated, and given back when undone.

    Refused where that memory is not to be had: a full /dev/shm of half the machine would end in the OOM killer.
    """

    leave_bytes: int = 0
    folder: str = "/dev/shm"  # noqa: S108 - the folder that runtimes use


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPort:
    """A TCP port that somebody else has: we listen on it and accept nobody, until it is undone."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosePort:
    """A TCP port that is open no more: listening sockets of the tree on that port stop listening; undone, they listen.

    New connections are refused meanwhile, and an ``accept`` that waits fails with ``EINVAL``. Connections that were
    accepted before live on.
    """

    port: int
    target: str = ".*"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDisk:
    """A disk that reads and writes no more than ``bytes_per_s`` for the matching processes and their later children.

    By the block throttle of cgroups, which counts what reaches the disk of ``path``: direct and synchronous I/O at
    once, buffered writes only where the hierarchy is cgroup v2.
    """

    target: str
    bytes_per_s: int
    path: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitMemory:
    """A limit on the address space of a process (``RLIMIT_AS``), ``headroom_bytes`` above what it has at that moment.

    Children that it starts meanwhile inherit the limit and keep it.
    """

    target: str
    headroom_bytes: int


FaultAction = SendSignal | FillShm | HoldPort | ClosePort | SlowDisk | LimitMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something done to the tree, or to what it lives on, at a declared moment.

    The fault is performed when the program records the observation ``at``. Without it: as soon as a process matches
    the action's ``target``, or, for an action that needs no process, before the program starts. A fault that lasts is
    undone at the observation ``until``, or ``lasts_s`` seconds after it was confirmed, and in any case before the tree
    is ended.
    """

    name: str
    action: FaultAction
    at: str | None = None
    until: str | None = None
    lasts_s: float | None = None


class OnHang(StrEnum):
    """What is done about a hang that is proved or declared: stacks only, or stacks and then the end."""

    CAPTURE = "capture"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to run a cell: a module of child programs, its environment, and other releases of packages."""

    module: str
    env: Mapping[str, str] = field(default_factory=dict)
    overlays: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    expected_s: float = 30.0
    """Usual duration, for the progress display only."""
    deadline_s: float = 180.0
    on_hang: OnHang = OnHang.CAPTURE
    """``KILL`` ends the attempt (``hang``) once the stacks of a hang are taken; else it runs on to its deadline."""
    gpus: int = 1
    """GPUs that the cell has to itself, where the machine has any; 0 for one that never touches a GPU."""
    shares_gpus: bool = False
    """Whether it puts up with other cells that share, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a cell is, from its parameters alone."""

    kind: Kind
    control_of: Params | None = None
    """The parameters of the failing cell that this cell is the passing control of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A cell that is run unless others are asked for; parameters that are not given are at their default."""

    params: Params
    suites: frozenset[str]
    may_be_untestable: frozenset[str] = frozenset()
    """Suites whose exit code does not mind that this cell cannot run on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An upstream thread, commit or document."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One known failure: upstream references, axes, what to run, oracle.

    Every callable is pure. ``requires`` returns why a cell cannot run on the machine, or ``None``. ``expect`` returns
    ``None`` where nothing was declared (an unlisted version).
    """

    name: str
    title: str
    references: tuple[Reference, ...]
    axes: tuple[Axis, ...]
    rows: tuple[Row, ...]
    describe: Callable[[Params], Description]
    expect: Callable[[Params, Environment], Expectation | None]
    requires: Callable[[Params, Environment], str | None]
    launch: Callable[[Params, Environment], Launch]
    oracle: Callable[[Attempt], Judgement]

    def axis(self, name: str) -> Axis | None:
        """Return the axis of that name, or ``None``."""
        return next((axis for axis in self.axes if axis.name == name), None)

    def complete(self, params: Params) -> dict[str, str]:
        """Return the parameters in the order of the axes, with defaults filled in.

        Raises:
            UsageError: If a parameter is no axis of the scenario.
        """
        unknown = [name for name in params if self.axis(name) is None]
        if unknown:
            msg = f"scenario {self.name} has no axis {unknown[0]!r}"
            raise UsageError(msg, hint=f"its axes: {', '.join(axis.name for axis in self.axes)}")
        return {axis.name: params.get(axis.name, axis.default) for axis in self.axes}

    def cell_id(self, params: Params) -> str:
        """Return the stable id of a cell: the shown axes, and every other one that is not at its default."""
        full = self.complete(params)
        named = [
            f"{axis.name}={full[axis.name]}" for axis in self.axes if axis.shown or full[axis.name] != axis.default
        ]
        return f"{self.name}[{','.join(named)}]"


SUITE_NAMES: Final = ("smoke", "laptop", "full", "gpu1", "gpu2", "gpu-full", "rocm")
