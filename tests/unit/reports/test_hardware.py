"""A run on GPUs is kept redacted, still as a run directory, and its page says what was recorded and what was not."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import msgspec
import pytest

from harness.errors import RecordError
from harness.record import EVENTS, RESULTS, read_manifest, read_run
from reports.hardware import MERGED, OVERHEAD, PACKED, SMI, keep, keep_all, page
from reports.load import load_rows
from tests.unit.reports import sample

UUID = "2818873b-8604-a41f-def9-72f789d5b3cf"
HOME = "/" + "root"
"""Put together: no file of the project names a folder of a machine."""
STACKS = "2 stacks of 2 processes by py-spy\n- main\n  ncclCommDestroy (init.cc:2388)\n"


def one_with_gpus(run: Path, folder: Path) -> Path:
    """Copy the sample run, and let its first row be a hang on a GPU."""
    shutil.copytree(run, folder)
    manifest = msgspec.structs.replace(
        read_manifest(folder),
        environment={"gpus": ["NVIDIA H200", "NVIDIA H200"], "packages": {"torch": "2.11.0"}, "cores": 32},
    )
    (folder / "run.json").write_bytes(msgspec.json.encode(manifest))
    rows = load_rows(folder)
    held = {"held_mib": 1474, "holders": [{"pid": 7, "name": "/home/jane/env/bin/python3 -m x", "mib": 1474}]}
    rows[0] = sample.change(
        rows[0],
        findings=[{"finding": "hang"}],
        gpu=held,
        effective={"torch": "2.11.0+cu130", "nccl": "2.28.9"},
        reasons=(f"pid 7 of jane@node17.corp.lan held 1474 MiB of GPU-{UUID}, --model {HOME}/x/tiny",),
    )
    (folder / RESULTS).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    merged = folder / str(rows[0].evidence) / MERGED
    merged.write_text(STACKS)
    (folder / "environment").mkdir()
    (folder / SMI).write_text(
        f"Driver Version   : 580.159.04\nCUDA Version : 13.0\nSerial Number : 1654024085851 {UUID}\n"
    )
    return folder


@pytest.fixture
def kept(run: Path, tmp_path: Path) -> Path:
    """Return the kept folder of that run."""
    keep(one_with_gpus(run, tmp_path / "run"), tmp_path / "gpu2")
    return tmp_path / "gpu2"


def test_what_is_kept_is_a_run_that_can_be_judged_again(run: Path, kept: Path) -> None:
    """Rows read back as they are, and the packed events hold all attempts."""
    assert [row.cell for row in load_rows(kept)] == [row.cell for row in load_rows(run)]
    (kept / EVENTS).write_bytes(gzip.decompress((kept / PACKED).read_bytes()))
    again, before = read_run(kept), read_run(run)
    assert again.unreadable_lines == 0
    assert {cell: len(some) for cell, some in again.attempts.items()} == {
        cell: len(some) for cell, some in before.attempts.items()
    }


def test_people_places_and_serial_numbers_are_not_kept(kept: Path) -> None:
    """No file holds the user, the host, the home folder, a GPU's id or its serial number."""
    texts = [
        gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        for path in kept.rglob("*")
        if path.is_file()
    ]
    assert texts
    for secret in ("jane", "node17", "/home/", HOME, UUID, "1654024085851"):
        assert not [text for text in texts if secret in text], secret


def test_the_page_shows_rows_memory_stacks_and_the_machine(kept: Path) -> None:
    """Every row is there; versions are those that were read off; the hang has its stacks."""
    text = page(kept, "Suite gpu2 on two H200s")
    assert text.startswith("# Suite gpu2 on two H200s\n")
    for expected in ("| GPUs | 2 × NVIDIA H200 |", "| driver | 580.159.04 |", "| torch | 2.11.0+cu130 |", "2.28.9"):
        assert expected in text
    assert all(row.cell in text for row in load_rows(kept))
    assert STACKS.rstrip() in text.partition("## Hangs")[2]
    assert "| pid 7 |" in text
    assert "563.7" in text.partition("## Throughput")[2]
    assert "Cost of supervision" not in text


def test_what_was_not_recorded_is_said(run: Path, tmp_path: Path) -> None:
    """A run without nvidia-smi, NCCL and stacks has a page all the same."""
    whole = one_with_gpus(run, tmp_path / "run")
    shutil.rmtree(whole / "environment")
    for merged in whole.glob(f"cells/*/*/{MERGED}"):
        merged.unlink()
    keep(whole, tmp_path / "gpu1")
    text = page(tmp_path / "gpu1", "Suite gpu1")
    assert "| driver | not recorded |" in text
    assert "merged stacks: not recorded" in text


def test_the_cost_of_supervision_stands_on_the_page(kept: Path) -> None:
    """Its last line is the conclusion; the rounds stand below."""
    (kept / OVERHEAD).write_text("round 1 of 1: bare 6074.85\nwatched against bare 1.012: holds (≥ 0.99)\n")
    assert "in alternation: watched against bare 1.012: holds" in page(kept, "x")


def test_a_folder_that_is_no_record_is_left_alone(run: Path, tmp_path: Path) -> None:
    """Only a record is ever replaced."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("keep me")
    with pytest.raises(RecordError):
        keep(run, tmp_path / "docs")
    assert (tmp_path / "docs" / "guide.md").read_text() == "keep me"


def test_several_runs_have_one_page(run: Path, tmp_path: Path) -> None:
    """Each lies in a folder of its own, and is named with its command; their rows and hangs stand together."""
    one, other = one_with_gpus(run, tmp_path / "nccl"), tmp_path / "graphs"
    shutil.copytree(run, other)
    keep_all([one, other], tmp_path / "full")
    keep_all([one, other], tmp_path / "full", ["Four.", "Two."])
    text = page(tmp_path / "full", "Suite gpu-full")
    rows, second = len(load_rows(run)), load_rows(run)[1].cell
    assert f"\n{2 * rows} rows, " in text
    assert f"- [graphs](full/graphs): {rows} rows, " in text
    assert text.index("[graphs](full/graphs)") < text.index("[nccl](full/nccl)") < text.index("Four.\n\nTwo.")
    assert text.count(second) == 2 * page(tmp_path / "full" / "graphs", "x").count(second)
    assert STACKS.rstrip() in text.partition("## Hangs")[2]


def test_a_folder_of_other_things_is_left_alone_by_several_runs(run: Path, tmp_path: Path) -> None:
    """As by one."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("keep me")
    shutil.copytree(run, tmp_path / "other")
    with pytest.raises(RecordError, match="docs"):
        keep_all([run, tmp_path / "other"], tmp_path / "docs")
    assert (tmp_path / "docs" / "guide.md").read_text() == "keep me"


def test_runs_that_would_be_lost_are_refused(run: Path, tmp_path: Path) -> None:
    """Two of one name, and one that lies in what is to be replaced; everything stays as it is."""
    for place in ("a", "b"):
        shutil.copytree(run, tmp_path / place / "out")
    with pytest.raises(RecordError, match="two runs are called out"):
        keep_all([tmp_path / "a" / "out", tmp_path / "b" / "out"], tmp_path / "full")
    assert not (tmp_path / "full").exists()
    keep_all([run], tmp_path / "full" / "one")
    with pytest.raises(RecordError, match="lies in"):
        keep_all([tmp_path / "full" / "one"], tmp_path / "full")
    assert load_rows(tmp_path / "full" / "one")


def test_one_run_replaces_several(run: Path, tmp_path: Path) -> None:
    """The folder was a page's before, and is again."""
    shutil.copytree(run, tmp_path / "other")
    keep_all([run, tmp_path / "other"], tmp_path / "full", ["Two."])
    keep_all([run], tmp_path / "full")
    assert not (tmp_path / "full" / "other").exists()
    assert "Two." not in page(tmp_path / "full", "x")
