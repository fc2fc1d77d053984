"""crashcart's core: plans cells, supervises their processes, records events and judges the record.

Imports no runtime (Ray, torch, vLLM): those live in ``scenarios.programs`` only.
"""

from typing import Final

__version__: Final = "0.1.0"
