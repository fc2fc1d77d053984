"""Names that are looked for after a dump are those that eu-stack itself finds while it holds the target."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.events import StacksCaptured
from harness.probes import proc
from harness.probes.stack_tools import find, tools_for
from harness.stacks import eu_stack
from harness.stacks.model import Process, ThreadStack
from harness.supervise.capture import CaptureJob
from tests.unit.stacks.recorded import process

pytestmark = [
    pytest.mark.skipif(find("eu-stack") is None, reason="eu-stack is not installed"),
    pytest.mark.skipif(find("eu-addr2line") is None, reason="eu-addr2line is not installed"),
]
SLEEPER = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
ASKS = SLEEPER + "print('ready', flush=True)\ntime.sleep(60)"
ONLY_EU_STACK = frozenset({"py_spy", "pystack", "gdb", "cuda_gdb", "rocgdb"})


@pytest.fixture
def sleeper() -> Iterator[int]:
    """An interpreter with a second thread; both sleep."""
    with subprocess.Popen([sys.executable, "-c", ASKS], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def loaded(start: int, identity: str = "8:1 7 /lib/a.so", offset: int = 0) -> list[proc.MappedFile]:
    return [proc.MappedFile(start, start + 0x1000, offset, "/lib/a.so", identity)]


def said(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def frames(stacks: list[ThreadStack]) -> list[list[tuple[str, str]]]:
    return [[(frame.function, frame.file) for frame in stack.frames] for stack in stacks]


def test_every_name_is_the_same(sleeper: int) -> None:
    """Those of callers, too, whose return address may belong to the next function already."""
    at_once = said("eu-stack", "-m", "-p", str(sleeper))
    bare = said("eu-stack", "-q", "-m", "-p", str(sleeper))
    names, mapped = eu_stack.Names(), proc.mapped_files(sleeper)
    asked = names.unknown(bare, mapped)
    command = ["eu-addr2line", "-a", "-S", "-C", "-p", str(sleeper)]
    answers = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, check=True)
    names.learn(bare, mapped, answers.stdout)
    one = process(1)
    assert {name for stack in frames(eu_stack.parse(bare, one)) for name, _ in stack} == {"??"}
    whole = frames(eu_stack.parse(at_once, one))
    assert len(whole) == 2
    assert frames(eu_stack.parse(names.fill(bare, mapped), one)) == whole
    assert names.unknown(bare, mapped) == ()


def test_what_one_process_taught_names_another() -> None:
    """The same files, mapped elsewhere: nothing is asked for but what only the second one runs."""
    first = "PID 1 - process\nTID 1:\n#0  0x0000000000001010 - /lib/a.so\n#1  0x0000000000001021 - /lib/a.so\n"
    second = "PID 2 - process\nTID 2:\n#0  0x0000000000005010 - /lib/a.so\n#1  0x0000000000005031 - /lib/a.so\n"
    here, there, replaced = loaded(0x1000), loaded(0x5000), loaded(0x5000, "8:1 99 /lib/a.so")
    names = eu_stack.Names()
    assert names.unknown(first, here) == ("0x1010", "0x1020")
    names.learn(first, here, "0x1010\nwait+0x10\n??:0\n0x1020\nwork+0x20\n??:0\n")
    assert names.unknown(second, there) == ("0x5030",)
    (stack,) = eu_stack.parse(names.fill(second, there), process(2))
    assert [frame.function for frame in stack.frames] == ["??", "wait"]
    assert set(names.unknown(second, replaced)) == {"0x5010", "0x5030"}


def test_an_answer_that_was_cut_off_teaches_nothing() -> None:
    """Neither the torn name nor that there is none: it is asked for again."""
    text = "PID 1 - process\nTID 1:\n#0  0x0000000000001010 - /lib/a.so\n#1  0x0000000000001021 - /lib/a.so\n"
    for cut in ("0x1010\nwait+0x10\n??:0\n0x1020\nwo", "0x1010\nwait+0x10\n??:0\n0x1020\n"):
        names = eu_stack.Names()
        names.learn(text, loaded(0x1000), cut)
        assert names.unknown(text, loaded(0x1000)) == ("0x1020",)


def test_places_count_from_the_beginning_of_the_file() -> None:
    """Code that is mapped by itself is not taken for what lies at the beginning."""
    text = "PID 1 - process\nTID 1:\n#0  0x0000000000001010 - /lib/a.so\n"
    names = eu_stack.Names()
    names.learn(text, loaded(0x1000), "0x1010\nwait+0x10\n??:0\n")
    assert names.unknown(text, loaded(0x1000, offset=0x2000)) == ("0x1010",)
    assert names.unknown(text.replace("1010", "9010"), loaded(0x1000)) == ()


@pytest.mark.parametrize(("large", "programs"), [(1, "both"), (1 << 60, "eu-stack alone")])
def test_a_capture_has_names_either_way(
    sleeper: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int, programs: str
) -> None:
    monkeypatch.setattr("harness.probes.stack_tools.LARGE_FILE", large)
    (tool,) = tools_for(sleeper, ONLY_EU_STACK)
    assert bool(tool.names) == (programs == "both")
    stat = proc.read_stat(sleeper)
    assert stat is not None
    events: list[object] = []
    job = CaptureJob([stat.key], tmp_path / "stacks", events.append, set(), ONLY_EU_STACK)
    while not job.advance():
        pass
    (dump,) = [event for event in events if isinstance(event, StacksCaptured) and event.tool == "eu-stack"]
    assert not dump.partial
    text = (tmp_path / dump.path).read_text()
    named = {name for stack in frames(eu_stack.parse(text, Process(stat.key, "python"))) for name, _ in stack}
    assert "thread_run" in named or "_PyEval_EvalFrameDefault" in named
