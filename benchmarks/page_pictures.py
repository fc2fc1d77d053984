"""The pictures of docs/images: the page's three main views of a run, on a screen and on a phone.

``python benchmarks/page_pictures.py RUN ATTEMPT``: a run directory, and the attempt whose timeline is shown, such as
``nested-spawn-1a2b3c4d-1`` (the fragment that the page links to). Needs the machine's Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal

from tests.browser import missing, opened

IMAGES: Final = Path(__file__).resolve().parents[1] / "docs" / "images"
SETTLE_MS: Final = 2000
"""Until a long page has scrolled to where its fragment points, in milliseconds."""
WIDTHS: Final[dict[int, Literal["light", "dark"]]] = {1280: "light", 390: "dark"}


def main() -> None:
    """Write the pictures, and fail if a page's console says anything."""
    if why := missing():
        sys.exit(why)
    page, attempt = Path(sys.argv[1]) / "report.html", sys.argv[2]
    for view, fragment in (("summary", ""), ("cells", "#cells"), ("timeline", f"#{attempt}")):
        for width, scheme in WIDTHS.items():
            with opened(page, width=width, scheme=scheme, fragment=fragment) as seen:
                seen.page.wait_for_timeout(SETTLE_MS)
                if seen.console:
                    sys.exit(f"{view} at {width}: {seen.console}")
                seen.page.screenshot(path=IMAGES / f"report-{view}-{width}.png")


if __name__ == "__main__":
    main()
