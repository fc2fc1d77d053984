"""How ``crashcart watch`` tells a finding."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cli.watch import _told


@pytest.mark.parametrize(
    ("finding", "told"),
    [
        ({"finding": "orphan", "pid": 7, "role": "worker", "seconds": 5.0}, "pid 7, role worker, seconds 5.0"),
        (
            {"finding": "hang", "class": "stopped", "proved": True, "reasons": ["pid 7 is stopped", "pid 8 waits"]},
            "stopped (proved)\n      pid 7 is stopped\n      pid 8 waits",
        ),
        ({"finding": "hang", "class": "quiet", "proved": False, "reasons": []}, "quiet (suspected)"),
        ({"finding": "fault_not_undone", "name": "stop", "reasons": ["it is gone"]}, "name stop\n      it is gone"),
    ],
)
def test_a_finding_is_told_in_words(finding: dict[str, Any], told: str) -> None:
    assert _told(finding) == told
