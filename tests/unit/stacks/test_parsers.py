"""Every parser on what the real tools printed, whole and cut off anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stacks import (
    Frame,
    Merger,
    Process,
    ThreadStack,
    Tool,
    joined,
    merge,
    parse,
    rank_of,
    read_dumps,
    sniff,
    write_dump,
)
from harness.stacks.memo import FrameMemo, without_addresses
from harness.stacks.symbols import fold
from tests.unit.stacks.recorded import FIXTURES, by_id, kernel, names, process, raw, stacks

DUMPS = sorted(
    path.name for path in FIXTURES.iterdir() if path.suffix in {".txt", ".json"} and ".proc" not in path.name
)
TOOLS = {
    "pyspy": Tool.PY_SPY,
    "pyspy-native": Tool.PY_SPY,
    "pystack": Tool.PYSTACK,
    "gdb": Tool.GDB,
    "eu": Tool.EU_STACK,
    "joined": Tool.JOINED,
}
VERSIONS = ["calls-py38.joined.txt", "calls-py310.joined.txt", "calls-py312.joined.txt", "calls-py313.joined.txt"]


def tool_of(name: str) -> Tool:
    return Tool.PY_SPY_JSON if name.endswith(".json") else TOOLS[name.split(".")[1]]


@pytest.mark.parametrize("name", DUMPS)
def test_the_tool_is_recognised(name: str) -> None:
    assert sniff(raw(name)) is tool_of(name)


@pytest.mark.parametrize("name", DUMPS)
def test_every_thread_of_a_whole_dump_is_found_with_frames(name: str) -> None:
    marks = {Tool.PY_SPY_JSON: '"thread_id"', Tool.PYSTACK: "Traceback for thread"}
    marks |= dict.fromkeys([Tool.EU_STACK, Tool.JOINED], "\nTID ")
    mark = marks.get(tool_of(name), "\nThread ")
    found = stacks(name, process(1))
    assert len(found) == raw(name).count(mark)
    assert not any(stack.partial for stack in found)
    assert all(stack.frames and stack.thread_id for stack in found)


@pytest.mark.parametrize("name", DUMPS)
def test_no_frame_carries_an_address_or_a_folder(name: str) -> None:
    for stack in stacks(name, process(1)):
        for frame in stack.frames:
            assert "0x" not in frame.function + frame.file
            assert not frame.file.startswith("/")
            assert frame.file.count("/") == frame.file.count("/__init__.py")


@pytest.mark.parametrize("name", DUMPS)
@given(share=st.floats(0, 1))
def test_a_dump_cut_anywhere_gives_whole_stacks_and_marks_the_last(name: str, share: float) -> None:
    text = raw(name)
    cut = text[: int(len(text) * share)]
    whole = stacks(name, process(1))
    found = parse(cut, process(1), tool=tool_of(name))
    assert len(found) <= len(whole)
    if name.endswith(".json"):
        assert [stack.frames for stack in found] == [stack.frames for stack in whole[: len(found)]]
        assert all(stack.partial for stack in found) or cut.rstrip() == text.rstrip()
        return
    if tool_of(name) is Tool.JOINED:
        assert all(stack.partial or stack in whole for stack in found) or cut.endswith("\n")
        assert any(stack.partial for stack in found) or not found or cut.endswith("\n")
        return
    for got, complete in zip(found[:-1], whole, strict=False):
        assert got == complete
    if found:
        kept, all_frames = found[-1].frames, whole[len(found) - 1].frames
        assert not kept or kept in {all_frames[: len(kept)], all_frames[-len(kept) :]}
        assert found[-1].partial or cut.endswith("\n")


@given(text=st.text(max_size=300), tool=st.sampled_from([None, *Tool]))
def test_no_text_makes_a_parser_raise(text: str, tool: Tool | None) -> None:
    assert all(isinstance(stack, ThreadStack) for stack in parse(text, process(1), tool=tool))


def test_an_error_message_is_no_stack() -> None:
    refusal = "Error: Failed to find python version from target process\n"
    assert sniff(refusal) is None
    assert parse(refusal, process(1)) == []
    assert parse("[]", process(1)) == []


@pytest.mark.parametrize(
    "name", ["threads.pyspy.json", "threads.pyspy.txt", "threads.pystack.txt", "threads.joined.txt"]
)
def test_python_frames_are_the_same_for_all_tools(name: str) -> None:
    found = stacks(name, process(1))
    waiting = next(stack for stack in found if "consumer" in names(stack))
    python = [frame for frame in waiting.frames if not frame.native]
    assert [(frame.name, frame.file, frame.line) for frame in python] == [
        ("_bootstrap", "threading.py", 1002),
        ("_bootstrap_inner", "threading.py", 1045),
        ("run", "threading.py", 982),
        ("consumer", "threads.py", 24),
        ("get", "queue.py", 171),
        ("wait", "threading.py", 327),
    ]


@pytest.mark.parametrize(
    "name", ["native.pyspy-native.json", "native.pyspy-native.txt", "native.pystack.txt", "native.joined.txt"]
)
def test_python_and_native_frames_stand_in_one_stack(name: str) -> None:
    stack = next(stack for stack in stacks(name, process(1)) if "call" in names(stack))
    kept, left_out = fold(stack.frames)
    shown = [(frame.name, frame.native) for frame in kept]
    assert shown.index(("call", False)) < shown.index(("native_wait", True))
    if "joined" not in name:  # elfutils does not look for inlined functions
        assert shown.index(("native_wait", True)) < shown.index(("native_wait_inner", True))
    assert left_out > 3
    assert not {"thread_run", "_ctypes_callproc", "start_thread"} & {frame.function for frame in kept}


@pytest.mark.parametrize("name", ["native.pystack.txt", "native.gdb.txt"])
def test_a_thread_that_python_never_saw_is_there(name: str) -> None:
    kept, _ = fold(by_id(stacks(name, process(1)), 8496).frames)
    assert [frame.function for frame in kept] == ["unseen_loop", "native_wait_inner", "sem_wait"]
    assert kept[0] == Frame("unseen_loop", "waits.c", 16, native=True)


def test_eu_stack_gives_modules_instead_of_lines() -> None:
    kept, _ = fold(by_id(stacks("native.eu.txt", process(1)), 4765).frames)
    assert kept == (
        Frame("unseen_loop", "libwaits.so", None, native=True),
        Frame("sem_wait", "libc.so", None, native=True),
    )
    nameless = by_id(stacks("native.eu.txt", process(1)), 4763).frames[-4]
    assert nameless == Frame("??", "libffi.so", None, native=True)


@pytest.mark.parametrize("name", VERSIONS)
def test_runs_of_python_calls_stand_where_the_loops_are(name: str) -> None:
    """From 3.8, where each function has a loop of its own, to 3.13, where a loop runs what it calls."""
    through_c = ["builtin_sorted", "list_sort", "list_sort_impl"]
    called = ["middle", *through_c, "key", "leaf", "time_sleep"]
    found = [[frame.name for frame in fold(stack.frames)[0]][:-1] for stack in stacks(name, process(1))]
    assert found == [
        ["_bootstrap", "_bootstrap_inner", "run", *called],
        ["<module>", "builtin_next", "generated", *called],
    ]
    assert joined.moved(raw(name), process(1)) == 0


def test_threads_that_only_the_kernel_knows_come_last() -> None:
    python, main, unseen = stacks("native.joined.txt", process(1))
    assert (python.thread_name, main.thread_name, unseen.thread_name) == ("native-call", "MainThread", "")
    assert [frame.function for frame in fold(unseen.frames)[0]] == ["unseen_loop", "sem_wait"]


@pytest.mark.parametrize("name", VERSIONS)
def test_a_thread_that_went_on_between_the_dumps_keeps_its_python_frames(name: str) -> None:
    """One loop less, as after a return; the other thread is as it was."""
    text = raw(name)
    place = text.rindex("\n#", 0, text.rindex("_PyEval_EvalFrameDefault"))
    gone = text[:place] + text[text.index("\n", place + 1) :]
    assert joined.moved(gone, process(1)) == 1
    before, after = stacks(name, process(1)), parse(gone, process(1))
    (changed,) = [stack for stack in after if stack not in before]
    complete = by_id(before, changed.thread_id)
    assert changed.frames == (*(frame for frame in complete.frames if not frame.native), joined.RAN_ON)
    assert not changed.partial


def test_an_interpreter_without_symbols_cannot_be_joined() -> None:
    assert joined.moved(raw(VERSIONS[0]).replace(" _PyEval_EvalFrameDefault", ""), process(1)) is None


def test_a_dump_without_its_second_half_is_partial() -> None:
    text = raw(VERSIONS[0]).partition("PID ")[0]
    assert joined.moved(text, process(1)) is None
    assert all(stack.partial and stack.frames for stack in parse(text, process(1), tool=Tool.JOINED))


def test_who_holds_the_gil() -> None:
    holders = {
        name: [stack.thread_id for stack in stacks(name, process(1)) if stack.holds_gil]
        for name in ("threads.pyspy.json", "threads.pyspy.txt", "threads.pystack.txt", "hold.pystack.txt")
    }
    assert holders == {
        "threads.pyspy.json": [8438],
        "threads.pyspy.txt": [8438],
        "threads.pystack.txt": [8438],
        "hold.pystack.txt": [8547],
    }
    assert {stack.holds_gil for stack in stacks("native.gdb.txt", process(1))} == {None}


def test_pystack_says_who_waits_for_the_gil() -> None:
    text = raw("hold.pystack.txt").replace("8550 (python) []", "8550 (python) [Waiting for the GIL]")
    assert by_id(parse(text, process(1)), 8550).waits == "gil"


def test_colours_of_pystack_are_ignored() -> None:
    text = raw("hold.pystack.txt")
    coloured = text.replace("(Python)", "\x1b[32m(Python)\x1b[0m").replace("(C)", "\x1b[34m(C)\x1b[0m")
    assert parse(coloured, process(1)) == parse(text, process(1))


def test_what_is_not_python_has_a_stack_too() -> None:
    (sleeping,) = stacks("sleep.gdb.txt", process(1))
    assert sleeping.thread_name == "sleep"
    assert fold(sleeping.frames)[0][-1].function == "clock_nanosleep"
    assert len(stacks("raylet.gdb.txt", process(1))) > 10
    (same,) = stacks("sleep.eu.txt", process(1))
    assert fold(same.frames)[0][-1] == Frame("clock_nanosleep", "libc.so", None, native=True)


def test_a_backtrace_that_gdb_could_not_finish_is_partial() -> None:
    text = raw("sleep.gdb.txt").replace("[Inferior", "Backtrace stopped: previous frame inner to this frame\n[Inferior")
    assert [stack.partial for stack in parse(text, process(1))] == [True]


def test_the_kernel_alone_gives_one_frame_a_thread() -> None:
    shown = {stack.thread_id: str(stack.frames[0]) for stack in kernel("threads.proc.txt", process(1))}
    assert shown == {
        8433: "[kernel] clock_nanosleep (hrtimer_nanosleep)",
        8435: "[kernel] clock_nanosleep (hrtimer_nanosleep)",
        8436: "[kernel] futex (futex_do_wait)",
        8437: "[kernel] futex (futex_do_wait)",
        8438: "[kernel] running",
    }


@given(address=st.integers(0, 2**64 - 1), other=st.integers(0, 2**64 - 1))
def test_the_same_stack_at_another_address_is_the_same_object(address: int, other: int) -> None:
    texts = [
        f"Thread 1 (LWP {pid}):\n#0  0x{where:016x} in f (p=0x{where:x}) from /lib/libx.so.3\n#1  0x{where} in ?? ()\n"
        for pid, where in ((5, address), (6, other))
    ]
    one, two = (parse(text, process(1))[0] for text in texts)
    assert one.frames is two.frames
    assert one.frames == (Frame("??", native=True), Frame("f", "libx.so", native=True))


@given(st.integers(-5, 10**9), st.integers(-5, 10**9))
def test_the_same_stack_with_other_numbers_among_its_arguments_is_the_same_object(value: int, other: int) -> None:
    texts = [f"Thread 1 (LWP 5):\n#0  f1 (rank={number}, s=<optimized out>) at x.c:7\n" for number in (value, other)]
    one, two = (parse(text, process(1))[0] for text in texts)
    assert one.frames is two.frames
    assert one.frames == (Frame("f1", "x.c", 7, native=True),)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.sampled_from([" in f (", ", ", ")\n", "@plt "])), max_size=6))
def test_only_addresses_are_cut(parts: list[tuple[int, str]]) -> None:
    text = "#0  " + "".join(f"0x{address:x}{rest}" for address, rest in parts)
    assert without_addresses(text) == "#0  " + "".join(f"0x{rest}" for _, rest in parts)


def test_the_memory_for_texts_is_bounded() -> None:
    seen = []

    def line(text: str) -> Frame | None:
        seen.append(text)
        return Frame(text) if text else None

    memo = FrameMemo(line, innermost_first=True, limit=1000)
    for number in range(200):
        assert memo.read(f"f{number}\nmain\n").frames == (Frame("main"), Frame(f"f{number}"))
    assert memo._size <= 1000
    assert seen.count("main") > 1


@given(
    st.lists(st.sampled_from(["gloo0.gdb.txt", "gloo2.pystack.txt", "threads.pyspy.json"]), max_size=4),
    st.integers(1, 5000),
)
def test_a_stream_gives_what_its_dumps_give(chosen: list[str], size: int) -> None:
    whose = [process(number + 1, rank=number) for number in range(len(chosen))]
    data = b"".join(write_dump(who, raw(name), sample=2) for who, name in zip(whose, chosen, strict=True))
    got = list(read_dumps(data[at : at + size] for at in range(0, len(data), size)))
    assert got == [stacks(name, who, sample=2) for who, name in zip(whose, chosen, strict=True)]


def test_a_torn_stream_loses_one_stack_and_says_so() -> None:
    data = b"noise\n" + b"".join(write_dump(process(pid), raw("gloo0.gdb.txt")) for pid in (1, 2))
    first, second = read_dumps([data[:-200]])
    assert not any(stack.partial for stack in first)
    assert [stack.partial for stack in second] == [False] * (len(second) - 1) + [True]
    assert list(read_dumps([b"noise", b"more"])) == []


def test_titles_and_environments_declare_ranks() -> None:
    assert rank_of("VLLM::Worker_TP3") == 3
    assert rank_of("VLLM::Worker_DP1_TP0_EP0") == 0
    assert rank_of("python train.py") is None
    assert rank_of("python train.py", {"RANK": "12"}) == 12
    assert rank_of("python train.py", {"RANK": "none", "SLURM_PROCID": "2"}) == 2
    worker = Process.of(process(1).key, "VLLM::Worker_TP1")
    assert (worker.role, worker.rank) == ("worker", 1)


def test_merging_takes_every_tool_at_once() -> None:
    merger = Merger()
    for pid, name in enumerate(DUMPS, 1):
        for stack in stacks(name, process(pid)):
            merger.add(stack)
    for stack in kernel("sleep.proc.txt", process(999)):
        merger.add(stack)
    merged = merger.result()
    assert merged.tools == ("eu-stack", "gdb", "proc", "py-spy", "py-spy + eu-stack", "pystack")
    assert len(merged.directory) == len(DUMPS) + 1
    assert merge([]).classes == ()
