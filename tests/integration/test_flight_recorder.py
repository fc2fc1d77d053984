"""A capture orders a dump of every flight recorder in the tree, and says what they tell together.

The dumps are recorded ones (see tests/fakes/flight_recorder); the process that writes them is ours.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.events import Event, HarnessNote, ProcessKey
from harness.probes.flight_recorder import Recorder, find_recorders, load, order_dump
from harness.probes.proc import read_stat
from harness.supervise import flight
from harness.supervise.capture import CaptureJob
from tests.fakes import flight_recorder

Start = Callable[..., subprocess.Popen[bytes]]
NO_TOOLS = frozenset({"py_spy", "pystack", "eu_stack", "gdb", "cuda_gdb", "rocgdb"})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a starter of ranks that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(rank: str, says: str, dump: Path | None = None) -> subprocess.Popen[bytes]:
        recorded = str(dump or flight_recorder.path(rank))
        argv = (sys.executable, "-m", "tests.programs.flight_recorder", rank, recorded, says)
        env = {
            **os.environ,
            "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": f"{tmp_path}/order_",
            "TORCH_FR_DUMP_TEMP_FILE": f"{tmp_path}/dump_",
        }
        started.append(subprocess.Popen(argv, env=env))
        until = time.monotonic() + 10
        while not (tmp_path / f"order_{rank}.ready").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def captured(processes: list[subprocess.Popen[bytes]], folder: Path) -> list[str]:
    """Take a capture of processes without any stack tool, and return the notes."""
    seen: list[Event] = []
    keys = [stat.key for process in processes if (stat := read_stat(process.pid)) is not None]
    job = CaptureJob([ProcessKey(key.pid, key.start) for key in keys], folder, seen.append, set(), NO_TOOLS)
    while not job.advance():
        time.sleep(0.02)
    return [event.note for event in seen if isinstance(event, HarnessNote)]


def test_the_ranks_say_together_who_is_behind(start: Start, tmp_path: Path) -> None:
    """The dumps lie beside the stacks, and the line names the rank that had not come."""
    processes = [start("0", "dump"), start("1", "dump")]
    (note,) = captured(processes, tmp_path / "stacks")
    assert note.startswith("flight recorder, group 0:default_pg: rank 0: all_reduce 4 ")
    assert "rank 1 had not come to all_reduce 4" in note
    kept = {path.name for path in (tmp_path / "stacks").iterdir() if "flight" in path.name}
    assert kept == {"flight-recorder.txt", "flight-recorder-0.pickle", "flight-recorder-1.pickle"}


def test_an_old_dump_is_not_taken_for_a_new_one(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not write costs a few seconds and a note."""
    monkeypatch.setattr(flight, "WAIT_S", 0.4)
    (tmp_path / "dump_0").write_bytes(flight_recorder.path("0").read_bytes())
    os.utime(tmp_path / "dump_0", (1, 1))
    process = start("0", "nothing")
    (note,) = captured([process], tmp_path / "stacks")
    assert note == f"the flight recorder of pid {process.pid} wrote nothing in 0.4 s"


def test_a_dump_that_cannot_be_read_is_kept_and_told(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can read it may want it; and it is unpickled once, not at every look."""
    monkeypatch.setattr(flight, "WAIT_S", 1.0)
    whole: list[bytes] = []

    def counted(data: bytes) -> dict[str, Any]:
        whole.extend([data] if data else [])
        return load(data)

    monkeypatch.setattr(flight, "load", counted)
    strange = tmp_path / "strange"
    strange.write_bytes(pickle.dumps({"entries": [None]}))
    process = start("0", "dump", strange)
    (note,) = captured([process], tmp_path / "stacks")
    wrong = "no dump of a flight recorder: its entry 0 has another layout"
    assert note == f"what the flight recorder of pid {process.pid} wrote is {wrong}"
    assert (tmp_path / "stacks/flight-recorder-0.pickle").read_bytes() == strange.read_bytes()
    assert whole == [strange.read_bytes()]


def test_a_process_without_a_recorder_is_not_asked(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        assert find_recorders([process.pid]) == []
        assert captured([process], tmp_path / "stacks") == []
        process.kill()


def test_whoever_made_the_pipe_is_asked_and_nobody_who_inherited_it(start: Start, tmp_path: Path) -> None:
    """In whatever order the tree is listed."""
    process = start("0", "heir")
    heir = int((tmp_path / "order_0.ready").read_text())
    for pids in ([process.pid, heir], [heir, process.pid]):
        assert [recorder.pid for recorder in find_recorders(pids)] == [process.pid]


def test_a_file_with_the_name_of_a_pipe_is_not_written_to(start: Start, tmp_path: Path) -> None:
    """Neither is it looked for, nor does an order go to what has the name by then."""
    process = start("0", "file")
    file = tmp_path / "order_0.pipe"
    assert find_recorders([process.pid]) == []
    with pytest.raises(OSError, match="is no pipe"):
        order_dump(Recorder(process.pid, "0", file, tmp_path / "dump_0"))
    assert file.read_bytes() == b""


def test_a_pipe_that_nobody_reads_is_an_error(start: Start, tmp_path: Path) -> None:
    process = start("0", "dump")
    (recorder,) = find_recorders([process.pid])
    assert recorder.dump == tmp_path / "dump_0"
    process.kill()
    process.wait()
    with pytest.raises(OSError, match="No such device or address"):
        order_dump(recorder)


def test_a_dump_that_is_written_between_a_look_and_its_reading_is_unpickled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look sees an empty file, the reading a whole one; the next look sees that one."""
    dump, data = tmp_path / "dump_0", pickle.dumps({"entries": [None]})
    recorder = Recorder(pid=os.getpid(), rank="0", pipe=tmp_path / "order_0.pipe", dump=dump)
    monkeypatch.setattr(flight, "find_recorders", lambda _: [recorder])
    monkeypatch.setattr(flight, "order_dump", lambda _: None)
    whole: list[bytes] = []

    def counted(read: bytes) -> dict[str, Any]:
        whole.append(read)
        return load(read)

    monkeypatch.setattr(flight, "load", counted)
    recorders = flight.FlightRecorders([os.getpid()], tmp_path, lambda _: None)
    time.sleep(0.02)  # files have the time of the kernel's last tick
    dump.write_bytes(b"")
    real = Path.read_bytes

    def written_meanwhile(path: Path) -> bytes:
        path.write_bytes(data)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", written_meanwhile)
    assert not recorders.advance()
    monkeypatch.setattr(Path, "read_bytes", real)
    assert not recorders.advance()
    assert whole == [data]
