"""Reads the TOML file of a nightly, strictly: every mistake gets a line of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from harness.errors import UsageError
from harness.nightly.config import Config
from harness.nightly.mistakes import of_form, of_meaning


class MistakesError(UsageError):
    """A configuration with mistakes, one line each."""

    def __init__(self, path: Path, mistakes: list[str]) -> None:
        super().__init__(f"{path}: {mistakes[0]}", hint="see docs/how-to/nightly.md")
        self.mistakes = mistakes
        self.path = path


def load(path: Path) -> Config:
    """Read and check a configuration.

    Raises:
        UsageError: If the file cannot be read.
        MistakesError: With all mistakes that it has.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise UsageError(msg, hint="docs/how-to/nightly.md shows a configuration to begin with") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MistakesError(path, [f"is no TOML: {error}".replace("\n", " ")]) from error
    mistakes = list(of_form(raw, Config))
    if mistakes:
        raise MistakesError(path, mistakes)
    config = msgspec.convert(raw, Config)
    name = config.name or path.stem
    config = msgspec.structs.replace(config, name=name, state=config.state or name)
    mistakes = list(of_meaning(config))
    if mistakes:
        raise MistakesError(path, mistakes)
    return config
