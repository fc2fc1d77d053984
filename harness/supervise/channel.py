"""Reads what the programs of an attempt write to their phase file, as it grows."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.events import Event, HarnessNote, NonceSaid, Observed, PhaseMarked


class PhaseChannel:
    """Tails one phase file (see `harness.child`)."""

    def __init__(self, path: Path, nonce: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._nonce = nonce
        self._rest = b""

    def read(self) -> list[Event]:
        """Return the events of all whole lines that have come since the last call."""
        data = self._rest + os.read(self._descriptor, 1 << 20)
        *lines, self._rest = data.split(b"\n")
        return [self._event(line) for line in lines if line]

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _event(self, line: bytes) -> Event:
        try:
            said = json.loads(line)
            pid, at_ns = int(said["pid"]), int(said["t_ns"])
            if "nonce" in said:
                return NonceSaid(pid=pid, valid=said["nonce"] == self._nonce)
            data = dict(said.get("data", {}))
            if "mark" in said:
                return Observed(mark=str(said["mark"]), pid=pid, at_ns=at_ns, data=data)
            return PhaseMarked(phase=str(said["phase"]), state=str(said["state"]), pid=pid, at_ns=at_ns, data=data)
        except (ValueError, KeyError, TypeError):
            return HarnessNote(note=f"unreadable line in the phase file: {line[:200]!r}")
