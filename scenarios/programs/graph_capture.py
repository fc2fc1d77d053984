"""Captures a small graph while another thread, or another stream, does what the cell says, and replays it.

What the runtime says of the capture is recorded word by word; whether the graph holds everything is told by its numbers
alone: it is replayed on new input and compared with the same operations run eagerly.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from harness import child

SIZE: Final = 4096
UNCACHED: Final = 96 << 20
"""Bytes of an allocation that the caching allocator cannot serve from what it has."""
WAIT_S: Final = 20.0
MODES: Final = {"global": 0, "thread_local": 1, "relaxed": 2}
"""Numbers of ``cudaStreamCaptureMode`` and ``hipStreamCaptureMode``."""
DEFAULTS: Final = {"trigger": "none", "mode": "global", "guard": "none", "streams": "one"}


def runtime_library() -> Any:
    """Return the CUDA or HIP runtime that torch has loaded, for the calls that torch does not offer."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if "/libcudart" in path or "/libamdhip64" in path:
            return ctypes.CDLL(path)
    msg = "neither libcudart nor libamdhip64 is loaded"
    raise RuntimeError(msg)


def exchange_mode(mode: str) -> int:
    """Set the capture mode of the calling thread, as PyTorch's watchdog does around its query; returns the status."""
    library = runtime_library()
    hip = hasattr(library, "hipThreadExchangeStreamCaptureMode")
    exchange = getattr(library, f"{'hip' if hip else 'cuda'}ThreadExchangeStreamCaptureMode")
    return int(exchange(ctypes.byref(ctypes.c_int(MODES[mode]))))


class Disturber(threading.Thread):
    """The other thread: waits for its moment, then does the one thing that the cell is about."""

    def __init__(self, settings: dict[str, str], event: Any) -> None:
        super().__init__(daemon=True)
        self.settings = settings
        self.event = event
        self.go = threading.Event()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.did = False

    def run(self) -> None:
        """Do it, and keep what came of it."""
        self.go.wait(WAIT_S)
        try:
            if self.settings["guard"] in MODES:
                child.mark("guarded", status=exchange_mode(self.settings["guard"]), mode=self.settings["guard"])
            self._act()
        except BaseException as error:  # noqa: BLE001 - whatever the runtime raises is the observation
            self.error = error
        self.done.set()

    def _act(self) -> None:
        import torch

        trigger = self.settings["trigger"]
        if trigger == "event_query":
            self.event.query()
        elif trigger == "malloc":
            torch.empty(UNCACHED, dtype=torch.uint8, device="cuda")
        elif trigger == "synchronize":
            torch.cuda.synchronize()
        self.did = trigger != "none"

    def disturb(self) -> None:
        """Let it act now, and wait until it has."""
        self.go.set()
        if not self.done.wait(WAIT_S):
            msg = "the other thread did not come back"
            raise TimeoutError(msg)


class Work:
    """A chain of three kernels, the middle one (the helper) on the stream that the cell says."""

    def __init__(self, streams: str) -> None:
        import torch

        self.streams = streams
        self.side = torch.cuda.Stream()
        self.input, self.first, self.helped, self.out = (torch.zeros(SIZE, device="cuda") for _ in range(4))

    def run(self, between: Callable[[], None] = lambda: None) -> None:
        """Launch the chain; ``between`` is called in its middle."""
        import torch

        torch.mul(self.input, 2.0, out=self.first)
        between()
        self._helper()
        torch.add(self.first, self.helped, out=self.out)

    def _helper(self) -> None:
        import torch

        current = torch.cuda.current_stream()
        if self.streams == "one":
            self._kernel()
        elif self.streams == "default":
            with torch.cuda.stream(torch.cuda.default_stream()):
                self._kernel()
        elif self.streams == "forked":
            forked, joined = torch.cuda.Event(), torch.cuda.Event()
            forked.record(current)
            self.side.wait_event(forked)
            with torch.cuda.stream(self.side):
                self._kernel()
            joined.record(self.side)
            current.wait_event(joined)
        else:
            if self.streams in {"joined", "unjoined"}:
                self.side.wait_stream(current)
            with torch.cuda.stream(self.side):
                self._kernel()
            if self.streams == "joined":
                current.wait_stream(self.side)

    def _kernel(self) -> None:
        import torch

        torch.add(self.first, 1.0, out=self.helped)

    def expected(self) -> Any:
        """Return what the chain comes to on the present input, computed elsewhere."""
        return self.input * 2.0 + (self.input * 2.0 + 1.0)


def capture(work: Work, disturber: Disturber, settings: dict[str, str]) -> Any:
    """Capture the chain and return the graph, or ``None`` with the error recorded."""
    import torch

    graph = torch.cuda.CUDAGraph()
    after = settings["guard"] == "after_capture"
    try:
        with torch.cuda.graph(graph, capture_error_mode=settings["mode"]):
            work.run(between=(lambda: None) if after else disturber.disturb)
    except Exception as error:  # noqa: BLE001 - releases of torch raise different classes
        child.observe_error("capture_failed", error)
        return None
    if after:
        disturber.disturb()
    child.mark("captured", mode=settings["mode"])
    return graph


def replay(graph: Any, work: Work) -> None:
    """Replay on new input and record whether the numbers are right."""
    import torch

    for seed in (1.0, 5.0):
        work.input.fill_(seed)
        for buffer in (work.first, work.helped, work.out):
            buffer.zero_()
        graph.replay()
        torch.cuda.synchronize()
        right = bool(torch.equal(work.out, work.expected()))
        child.mark("replayed", right=right, got=float(work.out[0]), wanted=float(work.expected()[0]))


def main() -> None:
    """Run the cell."""
    settings = DEFAULTS | child.params()
    with child.phase("load"):
        import torch

        torch.cuda.init()
        work = Work(settings["streams"])
        work.run()
        torch.cuda.synchronize()
        event = torch.cuda.Event()
        event.record()
        torch.cuda.synchronize()
    child.mark("stack", torch=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip)
    disturber = Disturber(settings, event)
    disturber.start()
    with child.phase("capture"):
        graph = capture(work, disturber, settings)
    if disturber.error is not None:
        child.observe_error("other_thread_failed", disturber.error)
    child.mark("other_thread", did=disturber.did)
    if graph is not None:
        with child.phase("replay"):
            replay(graph, work)
    child.finish()


if __name__ == "__main__":
    main()
