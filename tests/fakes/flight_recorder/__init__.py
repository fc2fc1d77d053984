"""Dumps of PyTorch's flight recorder, recorded on two H200s (torch 2.11.0, NCCL 2.28.9).

Two ranks did three all-reduces together, then rank 0 a fourth; rank 1 never came to it. Both dumps were ordered
through the pipe while rank 0 hung.
"""

from __future__ import annotations

from pathlib import Path


def path(rank: str) -> Path:
    """Return the dump of a rank."""
    return Path(__file__).parent / f"rank_{rank}.pickle"
