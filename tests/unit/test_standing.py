"""What of a capture is told as events: suspects first, the main thread first, innermost calls first, not too many."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.events import ProcessKey, StacksCaptured
from harness.supervise.merged import STANDING_FRAMES, STANDING_PROCESSES, standing

DUMP = Path(__file__).parent / "stacks" / "fixtures" / "native.pyspy-native.json"


def captures(folder: Path, count: int) -> list[StacksCaptured]:
    """Return captures of so many processes, all with the recorded stacks of one."""
    shutil.copy(DUMP, folder / "dump.json")
    return [
        StacksCaptured(key=ProcessKey(pid, 1), tool="py-spy --native", path="dump.json", seconds=0.1)
        for pid in range(1, count + 1)
    ]


def test_innermost_calls_come_first_and_native_ones_are_among_them(tmp_path: Path) -> None:
    told = standing(captures(tmp_path, 1), (), tmp_path)
    native = next(one.frames for one in told if any("native_wait_inner" in frame for frame in one.frames))
    calls = [frame.partition(" ")[0] for frame in native]
    assert calls.index("native_wait_inner") < calls.index("native_wait")
    assert all(len(one.frames) <= STANDING_FRAMES for one in told)


def test_suspects_are_told_first_and_the_rest_is_cut(tmp_path: Path) -> None:
    many = captures(tmp_path, STANDING_PROCESSES + 4)
    suspect = many[-1].key
    told = [event.key for event in standing(many, (suspect,), tmp_path)]
    assert told[0] == suspect
    assert len(set(told)) == STANDING_PROCESSES


def test_what_no_tool_dumped_stands_nowhere(tmp_path: Path) -> None:
    gone = StacksCaptured(key=ProcessKey(1, 1), tool="none", path="", seconds=0.0, partial=True, detail="gone")
    assert standing([gone], (gone.key,), tmp_path) == []
