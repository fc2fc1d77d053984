"""Headless Chromium for tests and benchmarks of the page: a browser of the machine, driven, never downloaded."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """A loaded page, what its console said, and what it asked for."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    load_s: float = 0.0


def missing() -> str:
    """Return why no browser can be driven here; empty if one can."""
    if not chromium():
        return "no chromium on the PATH"
    try:
        import playwright.sync_api  # noqa: F401 - asked only whether it is there
    except ImportError as error:
        return str(error)
    return ""


def chromium() -> str:
    """Return the path of the machine's Chromium; empty if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "") or ""


@contextmanager
def opened(
    file: Path, *, width: int = 1280, scheme: Literal["light", "dark"] = "light", fragment: str = ""
) -> Iterator[Seen]:
    """Load a file in a fresh profile; times are until the load event, in seconds."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), headless=True, args=list(FLAGS))
        try:
            height = 900 if width > 600 else 844
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
            seen = Seen(page)
            page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: seen.console.append(f"error: {error}"))
            page.on("request", lambda request: seen.requests.append(request.url))
            start = time.perf_counter()
            page.goto(file.absolute().as_uri() + fragment)
            seen.load_s = time.perf_counter() - start
            yield seen
        finally:
            browser.close()


def load_seconds(file: Path, rounds: int) -> str:
    """Return the median, least and most seconds until the load event, each in a fresh browser, as a text."""
    if why := missing():
        return f"not measured: {why}"
    times = []
    for _ in range(rounds):
        with opened(file) as seen:
            times.append(seen.load_s)
    return f"{statistics.median(times):.2f} s (least {min(times):.2f}, most {max(times):.2f}, {rounds} rounds)"
