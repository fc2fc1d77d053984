"""A native call that never comes back under a declared phase: noticed in time, and the record says where it stood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.events import PhaseMarked, StoodAt, Suspected
from harness.record import iterate_events
from tests.zoo.watching import ALLOWED_S, NO_HANG


def test_a_native_hang_is_noticed_and_its_place_is_an_event(tmp_path: Path) -> None:
    """Within 15 s of its begin, with the process as the suspect and the native call among the frames of its thread."""
    command = [sys.executable, "-m", "harness", "watch", "--out", str(tmp_path / "run"), "--timeout", "25", "--"]
    subprocess.run([*command, sys.executable, "-m", "tests.programs.native_hang"], capture_output=True, check=False)
    events = list(iterate_events(tmp_path / "run"))
    begun = next(event for event in events if isinstance(event, PhaseMarked))
    doubt = next(event for event in events if isinstance(event, Suspected) and event.suspicion not in NO_HANG)
    assert [key.pid for key in doubt.keys] == [begun.pid]
    assert (doubt.t_ns - begun.at_ns) / 1e9 < ALLOWED_S
    stood = [event for event in events if isinstance(event, StoodAt) and event.key.pid == begun.pid]
    main = next(event.frames for event in stood if any("main (" in frame for frame in event.frames))
    places = {name: next(at for at, frame in enumerate(main) if name in frame) for name in ("ffi_call", "main (")}
    assert places["ffi_call"] < places["main ("], "innermost first, native frames above the Python ones"
