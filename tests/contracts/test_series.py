"""What a series of readings promises: it waits for nobody, survives its library, asks only what changes, leaves nobody.

The vendors' libraries are stood in for; the processes are real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.probes.amdsmi import AmdSmiProbe
from harness.probes.gpu import GpuReading, Unavailable
from harness.probes.isolated import END_S
from harness.probes.nvml import NvmlProbe
from harness.probes.proc import read_stat
from harness.probes.series import MOST_FAILURES, ReadingSeries
from tests.contracts.test_probes import GPU, STUCK_S, environment

SOON_S = 20.0
"""How long anything may take on a busy machine."""
WAITS_S = 0.5
"""Far longer than a call that does not wait takes, a busy machine's turns of processors included."""
STATIC = {
    NvmlProbe: {"nvmlInit", "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo"},
    AmdSmiProbe: {
        "amdsmi_init", "amdsmi_get_processor_handles", "amdsmi_get_gpu_device_uuid", "amdsmi_get_gpu_asic_info",
        "amdsmi_get_gpu_device_bdf",
    },
}  # fmt: skip
HOLDS_SERIES = """
import time
from tests.contracts.test_series import Library
from pathlib import Path
from harness.probes.nvml import NvmlProbe
library = Library(NvmlProbe, Path({folder!r}))
library.next()
library.becomes(hang_s={hang_s})
library.series.ask()
print(*library.helpers, flush=True)
time.sleep(600)
"""


class Library:
    """A series over a stand-in whose driver can be changed between two readings."""

    def __init__(self, probe: type[NvmlProbe | AmdSmiProbe], folder: Path, timeout_s: float = SOON_S) -> None:
        self.state, self.calls = folder / "state", folder / "calls"
        self.helpers: set[int] = set()
        env = environment({"gpus": [GPU], "state": str(self.state), "calls": str(self.calls)})
        self.series = probe(timeout_s=timeout_s, env=env, helpers=self.helpers).series()

    def becomes(self, **behaviour: object) -> None:
        """Change what the driver does from now on."""
        self.state.write_text(json.dumps(behaviour))

    def next(self) -> GpuReading | Unavailable:
        """Ask for a reading and return it; no call may wait."""
        return outcome(self.series)


def outcome(series: ReadingSeries) -> GpuReading | Unavailable:
    """Ask for a reading and return it; no call may wait."""
    series.ask()
    until = time.monotonic() + 2 * SOON_S
    while True:
        before = time.monotonic()
        answer = series.poll()
        assert time.monotonic() - before < WAITS_S
        if answer is not None:
            return answer
        assert time.monotonic() < until
        time.sleep(0.005)


def reading(answer: GpuReading | Unavailable) -> GpuReading:
    """Return an answer that has to be a reading."""
    assert isinstance(answer, GpuReading), answer
    return answer


def why(answer: GpuReading | Unavailable) -> str:
    """Return the reason of an answer that may be no reading."""
    assert isinstance(answer, Unavailable), answer
    return answer.reason


def ended(pid: int) -> bool:
    """Whether a process has ended; a zombie is for its parent to reap."""
    stat = read_stat(pid)
    return stat is None or stat.state in "ZX"


def wait_for(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(params=[NvmlProbe, AmdSmiProbe], ids=["nvml", "amdsmi"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    """Return a series of either probe, closed afterwards."""
    made = Library(request.param, tmp_path)
    with closing(made.series):
        yield made


@pytest.mark.parametrize("probe", STATIC, ids=["nvml", "amdsmi"])
def test_only_what_changes_is_asked_again(probe: type[NvmlProbe | AmdSmiProbe], tmp_path: Path) -> None:
    """Memory and processes are those of the moment, and what is static is the same without having been asked again."""
    library = Library(probe, tmp_path)
    with closing(library.series):
        first = reading(library.next())
        before = Counter(library.calls.read_text().split())
        library.becomes(gpus=[GPU | {"used": 2000 << 20, "processes": [["compute", 1, 1900 << 20]]}])
        second = reading(library.next())
        again = Counter(library.calls.read_text().split()) - before
    assert [(one.devices[0].memory_used_mib, one.holders[0].mib) for one in (first, second)] == [
        (1600, 1518),
        (2000, 1900),
    ]
    static = [(one.uuid, one.model, one.pci, one.memory_total_mib) for one in (*first.devices, *second.devices)]
    assert static == [(GPU["uuid"], "A GPU", "0000:0f:00.0", 81559)] * 2
    assert {name: before[name] for name in STATIC[probe]} == dict.fromkeys(STATIC[probe], 1)
    assert again
    assert not STATIC[probe] & set(again)
    assert len(library.helpers) == 1


def test_a_single_reading_is_the_first_of_a_series(library: Library) -> None:
    """The two share what they ask, so that they say the same of the same machine."""
    probe = NvmlProbe if library.next().probe == "nvml" else AmdSmiProbe
    assert probe(env=environment({"gpus": [GPU]})).read() == library.next()


def test_a_gpu_that_gets_lost_does_not_hide_the_others(library: Library) -> None:
    library.becomes(gpus=[GPU, GPU | {"uuid": "GPU-2"}])
    assert [device.index for device in reading(library.next()).devices] == [0, 1]
    library.becomes(gpus=[GPU, GPU | {"uuid": "GPU-2"}], lost=[0])
    found = reading(library.next())
    assert [device.index for device in found.devices] == [1]
    assert found.notes[0].startswith("GPU 0 does not answer")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [({"hang_s": 600}, "did not answer within 1 s"), ({"crash": True}, "ended with -11 and no answer")],
    ids=["blocks", "crashes"],
)
@pytest.mark.parametrize("probe", [NvmlProbe, AmdSmiProbe], ids=["nvml", "amdsmi"])
def test_trouble_at_the_second_reading_costs_that_one(
    probe: type[NvmlProbe | AmdSmiProbe], trouble: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    library = Library(probe, tmp_path)
    with closing(library.series):
        reading(library.next())
        (first,) = library.helpers
        library.series._timeout_s = STUCK_S
        library.becomes(**trouble)
        assert reason in why(library.next())
        wait_for(lambda: ended(first))
        library.series._timeout_s = SOON_S
        library.becomes()
        reading(library.next())
        assert len(library.helpers) == 2
        assert not library.series.over
    assert all(ended(pid) for pid in library.helpers)


def test_a_library_that_prints_does_not_block(library: Library) -> None:
    """More than a pipe holds, at each reading: it goes to stderr, which is read all the time."""
    library.becomes(noise=10_000)
    for _ in range(3):
        reading(library.next())
    assert len(library.helpers) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("print('no JSON', flush=True)", "wrote what is no answer: its last words"),
        ("print('{}', flush=True)", "wrote what is no answer: its last words"),
        ("raise SystemExit(3)", "ended with 3 and no answer: its last words"),
    ],
    ids=["garbage", "nothing", "exit"],
)
def test_a_process_that_does_not_answer_has_its_last_words_told(line: str, reason: str, tmp_path: Path) -> None:
    program = f"import sys\nfor _ in sys.stdin:\n    sys.stderr.write('first\\nits last words\\n')\n    {line}\n"
    (tmp_path / "babble.py").write_text(program)
    with closing(ReadingSeries("babble", "nvml", env={**os.environ, "PYTHONPATH": str(tmp_path)})) as series:
        assert reason in why(outcome(series))


def test_after_some_failures_in_a_row_nobody_is_asked_any_more(library: Library) -> None:
    """A reading in between begins the count again."""
    for good in (False, True, False, False, False):
        assert not library.series.over
        wait_for(lambda: sum(not ended(pid) for pid in library.helpers) <= 1)
        library.becomes(crash=not good)
        assert isinstance(library.next(), GpuReading if good else Unavailable)
    assert "ended with -11" in library.series.over
    before = set(library.helpers)
    library.becomes()
    assert why(library.next()) == library.series.over
    assert (library.helpers, MOST_FAILURES) == (before, 3)


def test_a_process_that_outlives_sigkill_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocked in the kernel it would; here the signal is kept from it until the end. It is given a second first."""
    library = Library(NvmlProbe, tmp_path)
    with closing(library.series):
        reading(library.next())
        (pid,) = library.helpers
        library.becomes(hang_s=600)
        library.series._timeout_s = STUCK_S
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "kill", lambda _: None)
            assert "did not answer" in why(library.next())
        assert why(library.next()) == f"pid {pid} that asked the driver's library before has not ended yet"
        assert not library.series.over
        time.sleep(END_S)
        assert (
            why(library.next())
            == library.series.over
            == f"pid {pid} that asked the driver's library does not end on SIGKILL"
        )
        assert library.helpers == {pid}
    assert ended(pid)


def test_a_python_that_is_not_there_is_told(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert "could not be started" in why(library.next())


def test_the_process_has_nothing_open_of_ours(library: Library, tmp_path: Path) -> None:
    """Nor is it in our session, where a terminal would interrupt it."""
    with (tmp_path / "open").open("w") as stream:
        os.set_inheritable(stream.fileno(), True)
        reading(library.next())
        (pid,) = library.helpers
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    assert len(links) == 4
    assert all(link.startswith("pipe:") for link in links), links
    assert os.getsid(pid) == pid


@pytest.mark.parametrize("hang_s", [0, 600], ids=["idle", "in the library"])
def test_nobody_is_left_when_who_asks_is_killed(hang_s: int, tmp_path: Path) -> None:
    script = HOLDS_SERIES.format(folder=str(tmp_path), hang_s=hang_s)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        assert not ended(pid)
        holder.send_signal(signal.SIGKILL)
    wait_for(lambda: ended(pid))


def test_a_process_ends_with_its_stdin(library: Library) -> None:
    """Also where nobody is told that a parent ends; the library is shut down then."""
    reading(library.next())
    child = library.series._child
    assert child is not None
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(SOON_S) == 0
    assert library.calls.read_text().split()[-1] in {"nvmlShutdown", "amdsmi_shut_down"}


def test_a_process_that_ended_between_two_readings_costs_one(library: Library) -> None:
    reading(library.next())
    (pid,) = library.helpers
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: ended(pid))
    assert why(library.next()) == "its helper process ended with -15 and no answer"
    reading(library.next())
