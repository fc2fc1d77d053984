"""The GPUs of a run: each attempt has its own for as long as it lasts; a wedged one is kept out, and the rest goes on.

A GPU is wedged when it has memory in use that nobody visible holds, or that a process holds which has ended, and this
does not go away in time. Only the GPUs that an attempt has leased are looked at: others are other people's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from harness.events import LeftBehind, ProcessKey
from harness.leases import environment_for, holders, lease, of_one_vendor, visible
from harness.outcome import VerdictName
from harness.probes.gpu import GpuDevice, GpuFinding, GpuFindingKind, GpuSurvey, explain
from harness.probes.gpu_probes import look_at_gpus
from harness.record import Sink

RETURN_S: Final = 30.0
"""How long the GPU memory of an attempt may take to come back, in seconds; 2.5 to 5 were seen after a SIGKILL."""
STUCK: Final = frozenset({GpuFindingKind.NO_OWNER, GpuFindingKind.ENDED, GpuFindingKind.ZOMBIE})
POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """What an attempt got: GPUs and the variables that show it these alone, or why it cannot start."""

    gpus: tuple[GpuDevice, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verdict: VerdictName | None = None
    """What the attempt comes to without having run; ``None`` if it may run."""
    reason: str = ""


class GpuPool:
    """Lends the GPUs that this process may see, and remembers the wedged ones until the run is over.

    Args:
        look: Asks the probes.
        environ: Whose ``CUDA_VISIBLE_DEVICES`` or ``HIP_VISIBLE_DEVICES`` counts.
        stop: Whether to stop waiting.
        tell: Is told for whom it waits.
    """

    def __init__(
        self,
        look: Callable[[], GpuSurvey],
        environ: Mapping[str, str],
        stop: Callable[[], bool] = lambda: False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._look = look
        self._environ = environ
        self._stop = stop
        self._tell = tell
        self.quarantined: dict[str, str] = {}
        """GPUs that are not lent any more, by UUID, and why."""

    @contextmanager
    def lend(self, count: int, who: str, *, shared: bool = False) -> Iterator[Loan]:
        """Wait for ``count`` clean GPUs and hold them until the block ends; 0 is a loan of nothing.

        Raises:
            UsageError: If the lock files cannot be used.
        """
        notes: list[str] = []
        while True:
            survey, began = (self._look() if count else None), time.monotonic()
            devices = visible(survey.devices, self._environ) if survey else ()
            if not devices:
                why = "no probe tells the GPUs apart: this attempt has none to itself"
                yield Loan(notes=(why,) if count else ())
                return
            mine = of_one_vendor(devices)
            left = [device for device in mine if device.uuid not in self.quarantined]
            if len(left) < count:
                yield self._refused(count, mine, tuple(notes))
                return
            if busy := holders():
                taken = [
                    f"GPU {device.index}: {busy[name]}" for device in left if (name := f"gpu-{device.uuid}") in busy
                ]
                if len(left) - len(taken) < count:
                    self._tell(f"{count} of {len(left)} GPUs, of which others hold {'; '.join(taken)}")
            with lease(left, count, who, shared=shared, stop=self._stop) as gpus:
                if not gpus:
                    yield Loan(verdict=VerdictName.NO_VERDICT, reason="interrupted while it waited for a GPU")
                    return
                fresh = survey if time.monotonic() - began < POLL_S else None
                wedged = self._wedged(gpus, fresh)
                if not wedged:
                    yield Loan(gpus=gpus, env=environment_for(gpus), notes=tuple(notes))
                    return
            notes += [self.quarantine(device, wedged[device.uuid]) for device in gpus if device.uuid in wedged]

    def quarantine(self, device: GpuDevice, reason: str) -> str:
        """Lend a GPU no more in this run, and return that as a sentence."""
        self.quarantined[device.uuid] = f"GPU {device.index}: {reason}"
        return f"quarantined: {self.quarantined[device.uuid]}"

    def _wedged(self, gpus: tuple[GpuDevice, ...], survey: GpuSurvey | None) -> dict[str, str]:
        """Return, of GPUs that are leased, what does not go away; what is on its way back is waited for."""
        until = time.monotonic() + RETURN_S
        ours = {device.uuid for device in gpus}
        while True:
            seen, survey = survey or self._look(), None
            found = [one for one in explain(seen.devices, seen.holders) if one.kind in STUCK and one.gpu in ours]
            if not found or self._stop() or time.monotonic() > until:
                return {gpu: "; ".join(one.reason for one in found if one.gpu == gpu) for gpu in {f.gpu for f in found}}
            time.sleep(POLL_S)

    def _refused(self, count: int, mine: tuple[GpuDevice, ...], notes: tuple[str, ...]) -> Loan:
        needed = f"{count} GPU{'s are' if count > 1 else ' is'} needed"
        if len(mine) < count:
            reason = f"{needed}; this process may use {len(mine)}"
            return Loan(verdict=VerdictName.UNTESTABLE, reason=reason, notes=notes)
        wedged = "; ".join(self.quarantined[device.uuid] for device in mine if device.uuid in self.quarantined)
        reason = f"{needed}, and these are quarantined: {wedged}; `crashcart doctor --reap` ends what crashcart left"
        return Loan(verdict=VerdictName.NO_VERDICT, reason=reason, notes=notes)


def record_residue(
    sink: Sink, members: Sequence[ProcessKey], without: frozenset[str] = frozenset()
) -> tuple[GpuFinding, ...]:
    """Wait for the GPU memory of processes that have ended to come back; record and return what does not."""
    until = time.monotonic() + RETURN_S
    while True:
        gpus = look_at_gpus(without)
        held = tuple(found for found in explain(gpus.devices, gpus.holders, ledger=members) if found.ours)
        if not held or time.monotonic() > until:
            for found in held:
                sink(LeftBehind(what="gpu_memory", name=found.reason, bytes=(found.mib or 0) << 20))
            return held
        time.sleep(0.5)
