"""The list of all GPU probes, in the order in which their names for a GPU are preferred."""

from __future__ import annotations

from dataclasses import dataclass

from harness.probes.amdsmi import AmdSmiProbe
from harness.probes.device_files import DeviceFilesProbe
from harness.probes.gpu import GpuProbe, GpuSurvey, Unavailable, survey
from harness.probes.kfd import KfdProbe
from harness.probes.nvml import NvmlProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenAway:
    """Stands in for a probe that the user took away by ``--without``."""

    name: str

    def read(self) -> Unavailable:
        """Say so."""
        return Unavailable(probe=self.name, reason="taken away by --without")


def gpu_probes(without: frozenset[str] = frozenset(), helpers: set[int] | None = None) -> tuple[GpuProbe, ...]:
    """Return every probe; ``helpers`` is told the pids of the processes that they start."""
    probes: tuple[GpuProbe, ...] = (
        NvmlProbe(helpers=helpers),
        AmdSmiProbe(helpers=helpers),
        KfdProbe(),
        DeviceFilesProbe(),
    )
    gone = without | {"nvml", "amdsmi", "kfd", "device_files"} if "gpu" in without else without
    return tuple(TakenAway(name=probe.name) if probe.name in gone else probe for probe in probes)


def look_at_gpus(without: frozenset[str] = frozenset(), helpers: set[int] | None = None) -> GpuSurvey:
    """Ask every probe once; takes a few tenths of a second, and at most the sum of their limits."""
    return survey(gpu_probes(without, helpers))
