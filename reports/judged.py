"""The verdict of each attempt of a cell. Rows hold the merged one; the others are judged again from the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.attempt import Attempt, Judgement
from harness.judge import Oracle, Row, as_expected, judge_attempt, oracle_of
from harness.outcome import Verdict, VerdictName, merge
from harness.plan import Cell
from harness.record import Manifest, build_attempt
from reports.log import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An attempt with its verdict; ``None`` where the verdict cannot be told for this attempt alone."""

    number: int
    attempt: Attempt
    verdict: Verdict | None
    as_expected: bool | None
    output_tok_s: float | None


def judge_attempts(log: Log, cell: Cell, row: Row) -> list[Judged]:
    """Return the attempts of a cell with their verdicts, in their order.

    A single attempt has the verdict of its row. Several are judged again, by the oracle of this crashcart; if they then
    do not add up to the row, the oracle has changed since, and no verdict is told rather than a wrong one.
    """
    found = [
        (number, build_attempt(cell.id, number, cell.params, [one.event for one in recorded]))
        for number in log.attempts_of(cell.id)
        if (recorded := log.read(cell.id, number))
    ]
    if len(found) == 1:
        number, attempt = found[0]
        verdict = Verdict(name=row.verdict, signature=row.signature, reasons=row.reasons)
        tokens = row.throughput.get("output_tok_s") if row.throughput else None
        return [_judged(cell, number, attempt, verdict, tokens)]
    oracle = oracles().get(cell.scenario)
    judgements = [judge_attempt(cell, attempt, oracle) for _, attempt in found]
    if not _agree(judgements, row):
        return [_judged(cell, number, attempt, None, None) for number, attempt in found]
    return [
        _judged(cell, number, attempt, judgement.verdict, (judgement.throughput or {}).get("output_tok_s"))
        for (number, attempt), judgement in zip(found, judgements, strict=True)
    ]


def cells_by_id(manifest: Manifest) -> dict[str, Cell]:
    """Return the planned cells by id."""
    return {cell.id: cell for cell in manifest.cells}


def cell_of(cells: Mapping[str, Cell], row: Row) -> Cell:
    """Return the planned cell of a row; one like it, if the plan does not have it."""
    return cells.get(row.cell) or Cell(
        scenario=row.scenario,
        id=row.cell,
        params=row.params,
        kind=row.kind,
        control_of=row.control_of,
        expected=row.expected,
    )


def oracles() -> dict[str, Oracle]:
    """Return the oracles of all scenarios that this crashcart knows, by name."""
    from scenarios.registry import all_scenarios  # heavier than the rest, and needed for repeated cells only

    return {scenario.name: oracle_of(scenario) for scenario in all_scenarios()}


def _agree(judgements: Sequence[Judgement], row: Row) -> bool:
    verdicts = [judgement.verdict for judgement in judgements]
    hits = sum(verdict.name is VerdictName.REPRODUCED for verdict in verdicts)
    return bool(verdicts) and merge(verdicts).name is row.verdict and hits == row.reproduced


def _judged(cell: Cell, number: int, attempt: Attempt, verdict: Verdict | None, tokens: float | None) -> Judged:
    met = as_expected(cell, verdict) if verdict is not None else None
    return Judged(number=number, attempt=attempt, verdict=verdict, as_expected=met, output_tok_s=tokens)
