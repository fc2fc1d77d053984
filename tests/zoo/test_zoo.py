"""The zoo holds what it says, and the programs that need no stack hang, or idle, as it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.zoo.catalogue import CATALOGUE
from tests.zoo.programs import ZOO, Program
from tests.zoo.validate import batches, light, observe

NOT_PROGRAMS = {"__init__.py", "catalogue.py", "templates.cc"}
LIGHT = [program for program in CATALOGUE if light(program)]


def test_every_program_stands_in_the_catalogue_once() -> None:
    files = {
        str(path.relative_to(ZOO))
        for folder in ("hangs", "healthy", "sealed")
        for path in (ZOO / folder).iterdir()
        if path.suffix in {".py", ".sh", ".c", ".cc"} and path.name not in NOT_PROGRAMS
    }
    assert Counter(files) == Counter(program.path for program in CATALOGUE)
    assert len({program.name for program in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("kind", ["hang", "healthy"])
def test_there_are_enough_of_each_kind_and_at_least_a_third_is_sealed(kind: str) -> None:
    programs = [program for program in CATALOGUE if program.kind == kind]
    assert len(programs) >= 24
    assert sum(program.group == "sealed" for program in programs) * 3 >= len(programs)


@pytest.mark.parametrize("program", CATALOGUE, ids=lambda program: program.name)
def test_what_is_said_of_a_program_is_consistent(program: Program) -> None:
    assert (program.kind == "hang") == (program.hang is not None) == bool(program.suspect)
    assert not (program.proved and program.phases)
    assert not (program.kind == "healthy" and (program.proved or program.also))
    assert ("{seconds}" in program.command) == (program.kind == "healthy" and not program.idle)
    assert all(Path(part).exists() for part in program.argv(ZOO)[1:] if part.startswith("/"))


@pytest.mark.parametrize("batch", list(batches(LIGHT)), ids=lambda batch: f"{batch[0].name}-to-{batch[-1].name}")
def test_hangs_hang_idlers_idle_and_all_can_be_ended(batch: list[Program]) -> None:
    present = [program for program in batch if not program.missing()]
    wrong = {observed.program.name: observed.wrong for observed in observe(present, seconds=60) if observed.wrong}
    assert not wrong
