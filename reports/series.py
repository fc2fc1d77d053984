"""Figures over time: tokens per second that programs said, and GPU memory if somebody sampled it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from harness import events
from reports.log import Recorded

GPU_SAMPLES: Final = "gpu.jsonl"
"""In the attempt's folder, a line per sample, as `GpuSample`; drawn if it is there."""
SAID: Final = {"tok_s": "tok/s", "output_tok_s": "tok/s"}
"""Fields of the programs' observations that are drawn, and what they are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value at one time, in seconds since the start of the attempt, and where it stands."""

    t_s: float
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one kind in the order of their times."""

    name: str
    points: tuple[Point, ...]


class GpuSample(msgspec.Struct, frozen=True):
    """Memory in use on one GPU, in MiB, at one reading of the monotonic clock."""

    t_ns: int
    gpu: int
    used_mib: float


_sample: Final = msgspec.json.Decoder(GpuSample)


def read_series(directory: Path, evidence: str, recorded: Sequence[Recorded], started_ns: int) -> list[Series]:
    """Return every series of an attempt that has at least one value."""
    found: dict[str, list[Point]] = {}
    for name, point in (*_said(recorded, started_ns), *_gpu(directory, evidence, started_ns)):
        found.setdefault(name, []).append(point)
    return [
        Series(name=name, points=tuple(sorted(points, key=lambda point: point.t_s))) for name, points in found.items()
    ]


def _said(recorded: Sequence[Recorded], started_ns: int) -> Iterator[tuple[str, Point]]:
    for one in recorded:
        if not isinstance(one.event, events.Observed):
            continue
        for field, name in SAID.items():
            value = one.event.data.get(field)
            if isinstance(value, int | float):
                t_s = max(0.0, (one.event.at_ns - started_ns) / 1e9)
                yield name, Point(t_s=t_s, value=value, source=f"events.jsonl:{one.line}")


def _gpu(directory: Path, evidence: str, started_ns: int) -> Iterator[tuple[str, Point]]:
    path = f"{evidence}/{GPU_SAMPLES}"
    try:
        lines = (directory / path).read_bytes().splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        try:
            sample = _sample.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        t_s = max(0.0, (sample.t_ns - started_ns) / 1e9)
        yield f"GPU {sample.gpu} MiB", Point(t_s=t_s, value=sample.used_mib, source=f"{path}:{number}")
