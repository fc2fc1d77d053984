"""Declared faults on real processes: attempted, confirmed by the kernel, felt by the program, undone, nothing left."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.child import NONCE
from harness.errors import RecordingError
from harness.events import (
    AttemptEnded,
    Event,
    FaultAttempted,
    FaultConfirmed,
    FaultFailed,
    FaultUndone,
    NonceSaid,
    Observed,
    ProcessBorn,
    ProcessDied,
)
from harness.probes import proc
from harness.record import Sink
from harness.spec import ClosePort, Fault, FaultAction, FillShm, HoldPort, LimitMemory, SendSignal, SlowDisk
from harness.supervise.faults.disk import DiskFault, Hierarchy, disk_of, find_hierarchy
from harness.supervise.faults.performer import FaultError
from harness.supervise.faults.signals import SignalFault
from harness.supervise.ledger import Entry
from harness.supervise.loop import Command, Interrupts, supervise

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests/programs/fault_victim.py"
MIB = 1 << 20
VICTIM = ".*fault_victim"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a tmpfs, or moves to a cgroup")


@dataclass
class Outcome:
    """The events of one attempt."""

    events: list[Event] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """The kinds of the events of faults, in order."""
        kinds = (FaultAttempted, FaultConfirmed, FaultFailed, FaultUndone)
        return [type(event).__name__.removeprefix("Fault").lower() for event in self.events if isinstance(event, kinds)]

    def detail(self, kind: type[FaultConfirmed | FaultFailed | FaultUndone]) -> str:
        """The words of the first event of a kind."""
        return next(event.detail for event in self.events if isinstance(event, kind))

    @property
    def whole(self) -> bool:
        """Whether the program came to its end, having felt the fault."""
        marks = [event.mark for event in self.events if isinstance(event, Observed)]
        return "felt" in marks and any(isinstance(event, NonceSaid) and event.valid for event in self.events)


class Lab:
    """Runs the program under a fault."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.interrupts = Interrupts()

    def run(self, behaviour: str, argument: str, *faults: Fault, sink: Sink | None = None, **limits: float) -> Outcome:
        outcome = Outcome()
        self.folder.mkdir(exist_ok=True)
        command = Command(
            argv=(sys.executable, str(PROGRAM), behaviour, argument),
            env={"PYTHONPATH": str(ROOT), NONCE: "n"},
            folder=self.folder,
            scratch=self.folder,
            nonce="n",
            deadline_s=limits.get("deadline_s", 40),
            faults=faults,
        )

        def keep(event: Event) -> None:
            outcome.events.append(event)
            if sink is not None:
                sink(event)

        supervise(command, keep, self.interrupts)
        return outcome


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a lab in a folder of the test."""
    return Lab(tmp_path / "attempt")


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of 160 MiB that nobody else uses: filling /dev/shm would break what others run here."""
    folder = tmp_path / "shm"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "crashcart-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def port() -> int:
    """Return a port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def felt(action: FaultAction) -> Fault:
    """Return a fault that begins when the program is ready and ends when the program has felt it."""
    return Fault(name="fault", action=action, at="ready", until="felt")


def free(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


ALL = ["attempted", "confirmed", "undone"]


@root_only
def test_a_full_shm(lab: Lab, tmpfs: Path) -> None:
    """The file system says that 4096 bytes are left, the program gets ENOSPC, and the space comes back."""
    before = free(tmpfs)
    outcome = lab.run("shm", str(tmpfs), felt(FillShm(leave_bytes=5000, folder=str(tmpfs))))
    assert outcome.faults == ALL
    assert outcome.whole
    left = int(outcome.detail(FaultConfirmed).partition(" has ")[2].split()[0])
    assert 5000 <= left < 5000 + 4096
    assert free(tmpfs) == before
    assert list(tmpfs.iterdir()) == []


@root_only
def test_a_shm_too_big_for_the_memory_is_not_filled(lab: Lab, tmpfs: Path) -> None:
    """A tmpfs may be promised more than there is; filling it would call the OOM killer, on anybody."""
    subprocess.run(["mount", "-o", "remount,size=100t", str(tmpfs)], check=True)
    outcome = lab.run("sleeper", "", Fault(name="f", action=FillShm(folder=str(tmpfs))), deadline_s=1)
    assert outcome.faults == ["attempted", "failed"]
    assert "MiB of memory can be spared" in outcome.detail(FaultFailed)


@root_only
def test_a_full_shm_ends_with_a_crashcart_that_is_killed(tmpfs: Path) -> None:
    """The file has no name and one owner: SIGKILL of the supervisor gives the space back."""
    script = (
        "import sys, time; from harness.supervise.faults.memory import *\n"
        "fault = ShmFault(FillShm(folder=sys.argv[1])); fault.perform()\n"
        "while fault.confirm() is None: pass\n"
        "print('full', flush=True); time.sleep(60)"
    )
    before = free(tmpfs)
    command = [sys.executable, "-c", script, str(tmpfs)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"full\n"
        assert free(tmpfs) == 0
        process.kill()
        process.wait()
    assert free(tmpfs) == before


def test_a_port_that_somebody_else_has(lab: Lab, port: int) -> None:
    """Held before the program starts; the program cannot bind it until the fault is undone."""
    outcome = lab.run("binder", str(port), Fault(name="held", action=HoldPort(port=port), until="felt"))
    assert outcome.faults == ALL
    assert outcome.whole
    order = [type(event) for event in outcome.events]
    assert order.index(FaultConfirmed) < order.index(ProcessBorn)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_a_port_in_use_cannot_be_held(lab: Lab) -> None:
    """Said as it is, with no undoing of what was not done."""
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        outcome = lab.run("sleeper", "", Fault(name="held", action=HoldPort(port=port)), deadline_s=1)
        assert outcome.faults == ["attempted", "failed"]
        assert "Address already in use" in outcome.detail(FaultFailed)
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_port_that_is_closed_under_its_server(lab: Lab, port: int) -> None:
    """Connections are refused while it lasts; afterwards the same server serves again, by the same socket."""
    outcome = lab.run("server", str(port), felt(ClosePort(port=port, target=VICTIM)))
    assert outcome.faults == ALL
    assert outcome.whole
    assert outcome.detail(FaultConfirmed) == f"port {port} refuses connections"


def test_a_port_that_nobody_has_cannot_be_closed(lab: Lab, port: int) -> None:
    fault = Fault(name="closed", action=ClosePort(port=port), at="ready")
    outcome = lab.run("sleeper", "", fault, deadline_s=2)
    assert outcome.faults == ["attempted", "failed"]
    assert outcome.detail(FaultFailed) == f"nobody in the tree listens on port {port}"


def test_a_memory_limit(lab: Lab) -> None:
    """With 32 MiB to spare 64 MiB cannot be mapped; afterwards they can."""
    outcome = lab.run("memory", "64", felt(LimitMemory(target=VICTIM, headroom_bytes=32 * MIB)))
    assert outcome.faults == ALL
    assert outcome.whole
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    assert outcome.detail(FaultUndone).endswith("unlimited" if soft == resource.RLIM_INFINITY else str(soft))


@root_only
def test_a_slow_disk(lab: Lab, tmp_path: Path) -> None:
    """Half a megabyte takes half a second at 1 MiB/s, and no time afterwards; the cgroup is gone."""
    try:
        hierarchy = find_hierarchy()
        disk_of(str(tmp_path))
    except FaultError as reason:
        pytest.skip(str(reason))
    outcome = lab.run("disk", str(tmp_path), felt(SlowDisk(target=VICTIM, bytes_per_s=MIB, path=str(tmp_path))))
    assert outcome.faults == ALL, outcome.events
    assert outcome.whole
    assert not list(hierarchy.mount.glob(f"crashcart-{os.getpid()}-*"))


def test_a_slow_disk_that_cannot_be_had_says_why(lab: Lab) -> None:
    """No block device is behind /proc; the reason is recorded, and nothing is left in any cgroup."""
    action = SlowDisk(target=VICTIM, bytes_per_s=MIB, path="/proc")
    outcome = lab.run("sleeper", "", Fault(name="slow", action=action, at="ready"), deadline_s=2)
    assert outcome.faults == ["attempted", "failed"]
    detail = outcome.detail(FaultFailed)
    assert "no block device is behind /proc" in detail or "a slow disk needs" in detail


@pytest.mark.parametrize(
    ("mounts", "reason"),
    [("", "no hierarchy here has"), ("c /nowhere cgroup rw,blkio 0 0\n", "/nowhere is not writable")],
)
def test_where_no_cgroup_throttles(mounts: str, reason: str) -> None:
    with pytest.raises(FaultError, match=reason):
        find_hierarchy(mounts)


def test_the_second_version_of_cgroups_is_asked_in_its_own_words(tmp_path: Path) -> None:
    """The form of Documentation/admin-guide/cgroup-v2.rst: one line for both directions in io.max."""
    for name, text in {"cgroup.controllers": "cpu io memory\n", "cgroup.procs": ""}.items():
        (tmp_path / name).write_text(text)
    hierarchy = find_hierarchy(f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n")
    assert hierarchy == Hierarchy(mount=tmp_path, version=2)
    assert hierarchy.limits("254:0", 1024) == {"io.max": "254:0 rbps=1024 wbps=1024"}


def test_the_second_version_gets_its_controller_and_loses_it_again(tmp_path: Path) -> None:
    """Groups have no block controller until their parent hands it on; that is undone, too."""
    try:
        disk_of(str(tmp_path))
    except FaultError as reason:
        pytest.skip(str(reason))
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    stat = proc.read_stat(os.getpid())
    assert stat is not None
    me = Entry(key=stat.key, ppid=1, parent=None, name="me", pidfd=-1, claimed_by="root")
    action = SlowDisk(target=".*", bytes_per_s=1024, path=str(tmp_path))
    fault = DiskFault("slow disk", action, [me], Hierarchy(mount=tmp_path, version=2))
    fault.perform()
    (group,) = tmp_path.glob("crashcart-*-slow_disk")
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+io"
    assert (group / "cgroup.procs").read_text() == str(os.getpid())
    assert fault.confirm() == f"1 processes read and write 1024 bytes/s at most ({group})"
    for file in group.iterdir():  # the kernel's own files vanish with a group
        file.unlink()
    assert fault.undo() == "the processes are in the cgroup that they were in"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "-io"
    assert not group.exists()
    assert fault.undo() is None


def test_a_stop_for_a_time(lab: Lab) -> None:
    """SIGSTOP for a second: the kernel shows T, the program sees the gap in its clock, SIGCONT lets it go on."""
    fault = Fault(name="stop", action=SendSignal(signal="SIGSTOP", target=VICTIM), at="ready", lasts_s=1.0)
    outcome = lab.run("clock", "0.8", fault)
    assert outcome.faults == ALL
    assert outcome.whole
    (death,) = (event for event in outcome.events if isinstance(event, ProcessDied))
    assert death.ended_by == ""


def test_a_stopped_tree_meets_its_deadline_and_goes_on_to_its_end(lab: Lab) -> None:
    """Nothing undoes it but the end of the attempt; then SIGTERM ends what SIGCONT has woken, without SIGKILL."""
    fault = Fault(name="stop", action=SendSignal(signal="SIGSTOP", target=VICTIM), at="ready")
    outcome = lab.run("sleeper", "", fault, deadline_s=2)
    assert outcome.faults == ALL
    (death,) = (event for event in outcome.events if isinstance(event, ProcessDied))
    assert (death.status.signal, death.ended_by) == ("SIGTERM", "stop:SIGTERM")


def test_a_signal_that_was_not_sent_leaves_no_mark() -> None:
    """A death that follows is not laid at its door."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        stat = proc.read_stat(process.pid)
        assert stat is not None
        entry = Entry(key=stat.key, ppid=1, parent=None, name="x", pidfd=os.pidfd_open(process.pid), claimed_by="root")
    with pytest.raises(FaultError, match="SIGTERM: No such process"):
        SignalFault("term_x", SendSignal(signal="SIGTERM", target="x"), entry).perform()
    os.close(entry.pidfd)
    assert not entry.signalled


def test_a_fault_for_a_process_that_is_not_there(lab: Lab) -> None:
    fault = Fault(name="f", action=LimitMemory(target="nobody", headroom_bytes=0), at="ready")
    outcome = lab.run("sleeper", "", fault, deadline_s=1)
    assert outcome.faults == ["failed"]
    assert outcome.detail(FaultFailed) == "no live process is called nobody"


def test_a_process_that_ends_takes_its_limit_along(lab: Lab) -> None:
    """Undone means that there is nothing left of it."""
    limit = Fault(name="limit", action=LimitMemory(target=VICTIM, headroom_bytes=64 * MIB), at="ready")
    kill = Fault(name="kill", action=SendSignal(signal="SIGKILL", target=VICTIM), at="ready")
    outcome = lab.run("sleeper", "", limit, kill)
    assert "undone" in outcome.faults
    assert outcome.detail(FaultUndone).endswith(("is gone", "unlimited"))


def lasting(port: int, tmpfs: Path) -> tuple[Fault, ...]:
    """Return one fault of every kind that lasts, none of which ends by itself."""
    return (
        Fault(name="hold", action=HoldPort(port=port)),
        Fault(name="fill", action=FillShm(folder=str(tmpfs))),
        Fault(name="limit", action=LimitMemory(target=VICTIM, headroom_bytes=64 * MIB), at="ready"),
        Fault(name="stop", action=SendSignal(signal="SIGSTOP", target=VICTIM), at="ready"),
    )


@root_only
@pytest.mark.parametrize("how", ["interrupt", "deadline", "death", "record"])
def test_everything_is_undone_however_the_attempt_ends(how: str, lab: Lab, port: int, tmpfs: Path) -> None:
    """Ctrl-C, a deadline, the program's death, a record that cannot be written: the machine is as before."""
    before = free(tmpfs)
    pids: list[int] = []
    confirmed: list[str] = []

    def sink(event: Event) -> None:
        if isinstance(event, ProcessBorn):
            pids.append(event.key.pid)
        if not isinstance(event, FaultConfirmed):
            return
        confirmed.append(event.fault)
        if len(confirmed) < 4:
            return
        assert free(tmpfs) == 0
        if how == "interrupt":
            lab.interrupts.count = 1
        elif how == "death":
            os.kill(pids[0], signal.SIGKILL)
        elif how == "record":
            raise RecordingError("the disk is full", hint="")

    faults = lasting(port, tmpfs)
    if how == "record":
        with pytest.raises(RecordingError):
            lab.run("sleeper", "", *faults, sink=sink)
    else:
        outcome = lab.run("sleeper", "", *faults, sink=sink, deadline_s=4 if how == "deadline" else 40)
        undone = [event.fault for event in outcome.events if isinstance(event, FaultUndone)]
        assert sorted(undone) == sorted(fault.name for fault in faults)
        assert outcome.faults[-4:] == ["undone"] * 4
        assert isinstance(outcome.events[-1], AttemptEnded)
    assert sorted(confirmed) == ["fill", "hold", "limit", "stop"]
    assert free(tmpfs) == before
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    until = time.monotonic() + 5
    while any(proc.read_stat(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(proc.read_stat(pid) for pid in pids)
