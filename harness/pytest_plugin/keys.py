"""What the plugin keeps in the stash of a test; names types that only a session with marks loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from harness.judge import Row
    from harness.probes.gpu import GpuDevice
    from harness.pytest_plugin.marks import Guard, Want

GUARD: Final[pytest.StashKey[Guard]] = pytest.StashKey()
"""How a test is supervised; absent for a test that runs as always."""
WANT: Final[pytest.StashKey[Want]] = pytest.StashKey()
"""The GPUs that a test asks for."""
LEASED: Final[pytest.StashKey[tuple[GpuDevice, ...]]] = pytest.StashKey()
SCENARIO: Final = pytest.StashKey[pytest.Mark]()
"""The mark of a test that is about a cell."""
ROW: Final[pytest.StashKey[Row]] = pytest.StashKey()
DEADLINE: Final = pytest.StashKey[float]()
"""The limit that pytest-timeout would have set, in seconds."""
