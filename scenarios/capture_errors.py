"""The errors of a stream capture by number, name and words; CUDA and HIP share the numbers and nearly all words.

Sources: the tables of error codes of the CUDA runtime (``driver_types.h``) and of HIP (``hip_runtime_api.h``). The HIP
names were read there and have not been seen on hardware by this project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CaptureError:
    """One error: its number, what follows ``cudaError`` or ``hipError`` in its name, and its words."""

    code: int
    suffix: str
    words: str

    def name(self, vendor: str) -> str:
        """Return the name of the runtime of a vendor, ``nvidia`` or ``amd``."""
        return f"{'hip' if vendor == 'amd' else 'cuda'}Error{self.suffix}"


UNSUPPORTED: Final = CaptureError(900, "StreamCaptureUnsupported", "operation not permitted when stream is capturing")
INVALIDATED: Final = CaptureError(
    901, "StreamCaptureInvalidated", "operation failed due to a previous error during capture"
)
UNJOINED: Final = CaptureError(904, "StreamCaptureUnjoined", "capturing stream has unjoined work")
ERRORS: Final = (
    UNSUPPORTED,
    INVALIDATED,
    CaptureError(902, "StreamCaptureMerge", "operation would result in a merge of separate capture sequences"),
    CaptureError(903, "StreamCaptureUnmatched", "capture was not ended in the same ref stream as it began"),
    UNJOINED,
    CaptureError(905, "StreamCaptureIsolation", "dependency created on uncaptured work in another stream"),
    CaptureError(
        906, "StreamCaptureImplicit", "operation would make the legacy stream depend on a capturing blocking stream"
    ),
    CaptureError(907, "CapturedEvent", "operation not permitted on an event last recorded in a capturing stream"),
    CaptureError(
        908, "StreamCaptureWrongThread", "attempt to terminate a thread-local capture sequence from another thread"
    ),
)
_HSA: Final = re.compile(r"HSA_STATUS_ERROR_\w+|0x10[0-9a-f]{2}\b", re.IGNORECASE)
HSA_EXCEPTION: Final = "HSA_STATUS_ERROR_EXCEPTION"
"""Status 0x1016: a kernel faulted on the GPU; the process aborts (sglang#23581 shows it after a broken capture)."""


def read(text: str) -> CaptureError | None:
    """Return the first capture error that a message names, by its name or its words."""
    found = [(at, error) for error in ERRORS for at in (_at(text, error),) if at >= 0]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def vendor(text: str) -> str:
    """Return ``amd`` if a message speaks of HIP, ``nvidia`` otherwise."""
    return "amd" if re.search(r"\bHIP error|hipError", text) else "nvidia"


def hsa_status(text: str) -> str | None:
    """Return the HSA status of an abort, as its name; 0x1016 is written both ways."""
    found = _HSA.search(text)
    if found is None:
        return None
    return HSA_EXCEPTION if found[0].lower() == "0x1016" else found[0]


def _at(text: str, error: CaptureError) -> int:
    places = [at for at in (text.find(error.words), text.find(f"Error{error.suffix}")) if at >= 0]
    return min(places, default=-1)
