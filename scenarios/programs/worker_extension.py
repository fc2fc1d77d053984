"""What a trainer adds to vLLM's worker by ``worker_extension_cls``; a real one, reached by ``collective_rpc``."""

from __future__ import annotations

import os
from typing import Any


class ProbeExtension:
    """Says where the worker runs, as verl's colocated extension does with its own methods."""

    def probe_worker(self) -> dict[str, Any]:
        """Return the pid and rank of the worker and the class that it was mixed into."""
        return {"pid": os.getpid(), "rank": int(getattr(self, "rank", -1)), "cls": type(self).__name__}
