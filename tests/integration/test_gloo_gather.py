"""The gather and the scatter that the CPU communicator lacks, between two real processes over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real_stack
PROGRAM = """
import json, sys
from types import SimpleNamespace
import torch
import torch.distributed as dist
from scenarios.programs.gloo_gather import all_gatherv, reduce_scatterv

rank, sizes = int(sys.argv[1]), [1, 3]
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
group = SimpleNamespace(world_size=2, rank_in_group=rank, cpu_group=dist.group.WORLD)
mine = torch.full((sizes[rank], 2), float(rank + 1))
both = all_gatherv(group, [mine, mine[:, :1]], 0, sizes)
part = reduce_scatterv(group, torch.arange(8.0).reshape(4, 2) * (rank + 1), 0, sizes)
even = all_gatherv(group, mine[:1])
print("found", json.dumps([both[0].tolist(), both[1].tolist(), part.tolist(), even.tolist()]))
dist.barrier()
dist.destroy_process_group()  # else gloo's threads are still there when the process ends: "terminate called"
"""


def test_uneven_parts_are_gathered_in_order_and_sums_are_scattered(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE, text=True, env=environment,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    found = [json.loads(words.rpartition("found ")[2]) for words in said]
    for whole, column, _, even in found:
        assert whole == [[1, 1], [2, 2], [2, 2], [2, 2]]
        assert column == [[1], [2], [2], [2]]
        assert even == [[1, 1], [2, 2]]
    assert [part for _, _, part, _ in found] == [[[0, 3]], [[6, 9], [12, 15], [18, 21]]]
