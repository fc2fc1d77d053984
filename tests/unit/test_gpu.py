"""What the figures of several sources mean together, on literal readings; and Xid lines, on literal logs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.events import ProcessKey
from harness.probes.gpu import (
    ENDED,
    OUTSIDE,
    GpuDevice,
    GpuFindingKind,
    GpuHolder,
    GpuReading,
    ThreadState,
    Unavailable,
    explain,
    pci_address,
    survey,
)
from harness.probes.xid import parse_xids, read_xids, xids_since

UUID = "GPU-5b1ea0f1"
OURS = ProcessKey(700, 42)


def device(used: int | None, uuid: str = UUID, pci: str = "0000:0f:00.0") -> GpuDevice:
    return GpuDevice(
        index=0, uuid=uuid, vendor="nvidia", model="H100", memory_total_mib=81559, memory_used_mib=used, pci=pci
    )  # fmt: skip


def holder(pid: int, mib: int | None, **facts: Any) -> GpuHolder:  # noqa: ANN401 - fields of the value
    plain = GpuHolder(pid=pid, name="VLLM::Worker", mib=mib, source="nvml", gpu=UUID, start=42)
    return replace(plain, **facts)


STUCK = (ThreadState(tid=701, state="D", wchan="fuse_wait_answer"),)


# Each row: what is in use, who holds it, and the findings as (kind, MiB, ours) with a word of their reasons.
@dataclass(frozen=True)
class Case:
    used: int | None
    holders: tuple[GpuHolder, ...]
    findings: tuple[tuple[str, int | None, bool], ...]
    words: str = ""


CASES = {
    "idle": Case(3, (), ()),
    "unknown": Case(None, (), ()),
    "reserve_of_the_driver": Case(64, (), ()),
    "no_owner": Case(1600, (), (("held_no_owner", 1600, False),), "no process that can be seen has the device open"),
    "ours": Case(1600, (holder(700, 1590),), (("held_by_ledger", 1590, True),), "pid 700 (VLLM::Worker) holds 1590"),
    "foreign": Case(1600, (holder(800, 1590),), (("held_by_other", 1590, False),), "not in the ledger"),
    "pid_used_again": Case(1600, (holder(700, 1590, start=43),), (("held_by_other", 1590, False),)),
    "one_process_two_sources": Case(
        1600,
        (holder(700, 1590), holder(700, None, source="device_files")),
        (("held_by_ledger", 1590, True),),
        "by nvml, device_files",
    ),
    "a_share_without_owner": Case(
        3100, (holder(700, 1590),), (("held_by_ledger", 1590, True), ("held_no_owner", 1510, False))
    ),
    "zombie_with_live_threads": Case(
        1600,
        (holder(700, None, source="device_files", threads=STUCK),),
        (("held_by_zombie", None, True), ("held_no_owner", 1600, False)),
        "701 D in fuse_wait_answer",
    ),
    "ended_but_listed": Case(
        1518, (holder(700, 1518, note=ENDED, start=0),), (("held_by_ended", 1518, True),), "still listed"
    ),
    "ended_and_foreign": Case(1518, (holder(801, 1518, note=ENDED, start=0),), (("held_by_ended", 1518, False),)),
    "host_pid_in_a_container": Case(
        1600,
        (holder(700, 1590, note=OUTSIDE, start=0), holder(700, None, source="device_files")),
        (("held_outside_namespace", 1590, False), ("held_by_ledger", None, True)),
        "not in this pid namespace",
    ),
    "driver_without_figures": Case(
        1600, (holder(800, None),), (("held_by_other", None, False), ("held_unaccounted", 1600, False)), "no figure"
    ),
    "common_device_only": Case(
        1600,
        (holder(700, None, source="device_files", gpu=""),),
        (("held_no_owner", 1600, False), ("held_by_ledger", None, True)),
        "these have the device open without a figure: pid 700",
    ),
    "common_device_beside_a_gpu": Case(
        1590, (holder(700, 1590), holder(700, None, source="kfd", gpu="")), (("held_by_ledger", 1590, True),)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_holds_what(name: str) -> None:
    case = CASES[name]
    findings = explain([device(case.used)], case.holders, ledger={OURS}, tolerance_mib=64)
    assert tuple((one.kind.value, one.mib, one.ours) for one in findings) == case.findings
    assert case.words in " | ".join(one.reason for one in findings)


def test_every_kind_of_finding_has_a_case() -> None:
    assert {kind for case in CASES.values() for kind, _, _ in case.findings} == {kind.value for kind in GpuFindingKind}


def test_a_holder_counts_on_its_own_gpu_only() -> None:
    """Memory of one GPU does not explain that of another."""
    devices = [device(1600), device(1600, uuid="GPU-2", pci="0000:10:00.0")]
    findings = explain(devices, [holder(700, 1590)], ledger={OURS})
    assert [(one.gpu, one.kind.value) for one in findings] == [(UUID, "held_by_ledger"), ("GPU-2", "held_no_owner")]


class Literal:
    """A probe that says what it was given."""

    def __init__(self, answer: GpuReading | Unavailable) -> None:
        self.answer = answer
        self.name = answer.probe

    def read(self) -> GpuReading | Unavailable:
        return self.answer


def test_sources_that_name_a_gpu_differently_are_one() -> None:
    """KFD knows the figures, AMD SMI another name; the PCI address makes them one, and absent figures are filled in."""
    smi = device(None, uuid="a7ff74b5-0000-1000-80ec", pci="0000:c1:00.0")
    kfd = device(1600, uuid="GPU-5f2b", pci="0000:c1:00.0")
    found = survey(
        [
            Literal(GpuReading(probe="amdsmi", devices=(smi,), holders=(holder(700, 1590, gpu=smi.uuid),))),
            Literal(Unavailable(probe="nvml", reason="nvidia-ml-py is not installed")),
            Literal(GpuReading(probe="kfd", devices=(kfd,), holders=(holder(800, 10, gpu=kfd.uuid),), notes=("odd",))),
        ]
    )
    assert [(one.uuid, one.memory_used_mib) for one in found.devices] == [(smi.uuid, 1600)]
    assert {one.gpu for one in found.holders} == {smi.uuid}
    assert [one.probe for one in found.unavailable] == ["nvml"]
    assert found.notes == ("kfd: odd",)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:0F:00.0", "0000:0f:00.0"),
        ("0000:0f:00", "0000:0f:00.0"),
        ("0000:c1:00.0", "0000:c1:00.0"),
        ("pci0000", "pci0000"),
    ],
)
def test_pci_addresses_have_one_form(text: str, address: str) -> None:
    assert pci_address(text) == address


# The forms of NVIDIA's "Xid Errors", and of lines that people have reported from dmesg, journalctl -k and /dev/kmsg.
LOG = """\
[   12.000001] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.159.04
[ 1234.567890] NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr 00000000. MMU Fault: ENGINE GR
Nov 20 17:59:27 node kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.
4,1377,98765432,-;NVRM: Xid (PCI:0000:65:00): 119, pid='<unknown>', name=<unknown>, Timeout after 45s of waiting for RPC
NVRM: Xid (0000:03:00): 14, Channel 00000001
NVRM: GPU at 0000:03:00: GPU-b850f46d-d5ea-c752-ddf3-c4453e44d3f7
NVRM: Xid (PCI:0000:83:00): 48
"""


def test_xid_lines_of_every_form(tmp_path: Path) -> None:
    file = tmp_path / "kern.log"
    file.write_text(LOG)
    found = parse_xids(LOG)
    assert [(xid.code, xid.pci, xid.pid, xid.name) for xid in found] == [
        (31, "0000:00:06.0", 79749, "exe"),
        (79, "0000:01:00.0", 1122, ""),
        (119, "0000:65:00.0", None, ""),
        (14, "0000:03:00.0", None, ""),
        (48, "0000:83:00.0", None, ""),
    ]
    assert [xid.boot_s for xid in found] == [1234.56789, None, 98.765432, None, None]
    assert [xid.text[:8] for xid in found] == ["Ch 00000", "GPU has ", "Timeout ", "Channel ", ""]
    assert found[1].meaning == "the GPU has fallen off the bus"
    assert found[3].meaning == ""
    assert read_xids(file) == found


def test_a_long_log_is_not_cut_within_a_line(tmp_path: Path) -> None:
    """Reads end anywhere in a file; the lines do not."""
    file = tmp_path / "kern.log"
    file.write_text(LOG * 300)
    found = read_xids(file)
    assert not isinstance(found, Unavailable)
    assert len(found) == 5 * 300


def test_xid_lines_since_a_moment_are_one_line_each(tmp_path: Path) -> None:
    """Older ones, and those without a time, are not taken for this attempt's."""
    file = tmp_path / "kern.log"
    file.write_text(LOG)
    (one,) = xids_since(1000.0, file)
    assert (
        one.describe() == "Xid 31 of GPU 0000:00:06.0, pid 79749 exe: memory page fault of the GPU: an illegal address"
    )
    assert xids_since(0.0, tmp_path / "none") == ()
