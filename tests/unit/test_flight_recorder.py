"""Dumps of PyTorch's flight recorder: read without importing what they name, and compared over the ranks."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from harness.probes.flight_recorder import last_collectives, load, summarise
from tests.fakes import flight_recorder


def dump(*entries: tuple[int, str], group: tuple[str, str] = ("0", "default_pg")) -> dict[str, Any]:
    """Return a dump of all-reduces with these numbers and states."""
    return {
        "entries": [
            {
                "process_group": group, "collective_seq_id": number, "profiling_name": "nccl:all_reduce",
                "state": state, "input_sizes": [[4]], "is_p2p": False,
            }
            for number, state in entries
        ]
    }  # fmt: skip


def recorded(rank: str) -> dict[str, Any]:
    return load(flight_recorder.path(rank).read_bytes())


def test_a_recorded_dump_is_read() -> None:
    """The real thing: three all-reduces are done, and the fourth is on rank 0 only."""
    (last,) = last_collectives(recorded("0")).values()
    assert (last.group, last.number, last.name) == ("0:default_pg", 4, "all_reduce")
    assert last.state in {"scheduled", "started"}
    (last,) = last_collectives(recorded("1")).values()
    assert (last.number, last.state) == (3, "completed")


def test_recorded_ranks_are_compared() -> None:
    (line,) = summarise({rank: recorded(rank) for rank in ("0", "1")})
    assert line.endswith("; rank 1 had not come to all_reduce 4 [[1048576]] when it wrote")


def test_of_ranks_that_are_behind_it_is_told_when_that_was() -> None:
    """Dumps are seconds apart: a rank that wrote first may be on its way, and may come."""
    (line,) = summarise({"0": dump((7, "started")), "1": dump((6, "completed")), "2": dump((5, "started"))})
    assert line.endswith("; ranks 1, 2 had not come to all_reduce 7 [[4]] when they wrote")


def test_ranks_that_are_level_are_only_listed() -> None:
    """An all-reduce that all ranks have begun hangs for another reason; nobody is accused."""
    (line,) = summarise({"0": dump((7, "started")), "1": dump((7, "started"))})
    assert line == "group 0:default_pg: rank 0: all_reduce 7 started; rank 1: all_reduce 7 started"


def test_a_rank_that_is_merely_slower_is_not_accused() -> None:
    """What the furthest has completed, all have come to."""
    (line,) = summarise({"0": dump((8, "completed")), "1": dump((7, "completed"))})
    assert "had not come" not in line


def test_every_group_has_its_line_and_ranks_are_in_order() -> None:
    other = dump((1, "started"), group=("1", "tp"))
    first, second = summarise({"10": dump((2, "completed")), "9": dump((2, "completed")), "0": other})
    assert first.index("rank 9") < first.index("rank 10")
    assert second.startswith("group 1:tp: rank 0")


def test_sends_and_receives_are_left_out() -> None:
    sent = dump((5, "completed"))
    sent["entries"].append({**sent["entries"][0], "is_p2p": True, "collective_seq_id": 9})
    assert last_collectives(sent)["0:default_pg"].number == 5


def test_an_entry_that_says_little_is_read() -> None:
    """Another release may leave something out."""
    (line,) = summarise({"0": load(pickle.dumps({"entries": [{}]}))})
    assert line == "group ?: rank 0: ? -1 ?"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no dump"),
        (pickle.dumps({"entries": []})[:-3], "no dump"),
        (pickle.dumps([1, 2]), "it has no entries"),
        (pickle.dumps({"entries": os.getcwd}), r"it names posix\.getcwd"),
        (pickle.dumps({"entries": None}), "it has no entries"),
        (pickle.dumps({"entries": [{}, 7]}), "its entry 1 has another layout"),
        (pickle.dumps({"entries": [{"process_group": None}]}), "its entry 0 has another layout"),
        (pickle.dumps({"entries": [{"collective_seq_id": None}]}), "its entry 0 has another layout"),
    ],
)
def test_anything_else_is_refused(data: bytes, why: str) -> None:
    """A pickle that names a function is not run, and what `summarise` could not read does not come to it."""
    with pytest.raises(ValueError, match=why):
        load(data)
