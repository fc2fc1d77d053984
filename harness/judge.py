"""From a recorded attempt to a verdict, findings and a result row. Pure: old records can be judged again."""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from harness.attempt import Attempt, Judgement, Process
from harness.causes import tell
from harness.events import ProcessKey
from harness.outcome import Kind, Rate, Verdict, VerdictName, merge, reproduction_rate
from harness.plan import Cell
from harness.record import RunRecord
from harness.roles import role
from harness.spec import Scenario, names_place

SIGNATURE_ALGORITHM: Final = 1
"""Version of `normalise`; signatures of different versions are not compared."""
ROW_SCHEMA: Final = 1
ORPHAN_S: Final = 1.0
"""A process that outlives its birth parent by this long, in seconds, is a finding; shorter is an orderly end."""
CRASHES: Final = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS"})
NOT_UNDONE: Final = "fault_not_undone"
"""The finding of a fault of our own that is still there; attempts after it have no verdict."""

LEFT: Final = {
    "shm": "shm_leak", "socket": "socket_left", "process": "left_behind", "gpu_memory": "gpu_memory_held",
}  # fmt: skip
"""What is left on the machine, as findings call it."""
WATCH: Final = "watch"
"""The scenario of watched commands: they cannot know a nonce, and their exit status stands in for it."""
PYTEST: Final = "pytest"
"""The scenario of supervised tests, whose cells are their node ids."""

Oracle = Callable[[Attempt], Judgement]


def oracle_of(scenario: Scenario) -> Oracle:
    """Return a scenario's oracle for attempts of any age: an axis that came after them has its default."""
    defaults = {axis.name: axis.default for axis in scenario.axes}
    return lambda attempt: scenario.oracle(dataclasses.replace(attempt, params={**defaults, **attempt.params}))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A result row, schema 1 (design.md, section 3)."""

    schema: int = ROW_SCHEMA
    run: str
    scenario: str
    cell: str
    params: dict[str, str]
    effective: dict[str, Any]
    kind: Kind
    control_of: str | None
    expected: VerdictName | None
    verdict: VerdictName
    as_expected: bool | None
    signature: str | None
    reasons: tuple[str, ...]
    attempts: int
    reproduced: int
    rate: Rate | None
    processes: dict[str, Any]
    findings: tuple[dict[str, Any], ...]
    gpu: dict[str, Any]
    throughput: dict[str, Any] | None
    wall_s: float
    evidence: str


def normalise(text: str) -> str:
    """Return a message without what differs from run to run: addresses, pids, ports, ids, counts, paths."""
    text = re.sub(r"0x[0-9a-fA-F]+", "<addr>", text)
    text = re.sub(r"\b[0-9a-f]{8,}(-[0-9a-f]{4,})*\b", "<id>", text)
    text = re.sub(r"(/[\w.+-]+){2,}", "<path>", text)
    text = re.sub(r"\d+", "<n>", text)
    return " ".join(text.split())[:160]


def judge_attempt(cell: Cell, attempt: Attempt, oracle: Oracle | None) -> Judgement:
    """Return the verdict of one attempt; the rules that hold for every scenario stand here, once."""
    if attempt.skipped is not None:
        return Judgement(verdict=attempt.skipped)
    if oracle is None:
        reason = f"scenario {cell.scenario!r} is not known to this crashcart"
        return Judgement(verdict=Verdict(name=VerdictName.NO_VERDICT, reasons=(reason,)))
    if attempt.end == "harness_error":
        return Judgement(verdict=Verdict(name=VerdictName.NO_VERDICT, reasons=(attempt.detail or "harness error",)))
    try:
        judgement = oracle(attempt)
    except Exception as error:  # noqa: BLE001 - whatever an oracle raises, the run goes on and the row says so
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"the oracle crashed: {type(error).__name__}: {error} ({where.name}:{where.lineno})"
        return Judgement(verdict=Verdict(name=VerdictName.NO_VERDICT, reasons=(reason,)))
    verdict = _overrule(cell, attempt, judgement)
    stays = tuple(f"fault {fault.fault} {fault.not_undone}" for fault in attempt.faults if fault.not_undone)
    verdict = msgspec.structs.replace(verdict, reasons=(*verdict.reasons, *stays))
    return dataclasses.replace(judgement, verdict=verdict)


def _overrule(cell: Cell, attempt: Attempt, judgement: Judgement) -> Verdict:
    verdict = judgement.verdict
    differing = [
        f"{axis}={cell.params[axis]} was asked for, in effect was {value}"
        for axis, value in judgement.effective.items()
        if (asked := cell.params.get(axis, value)) not in {value, "installed"} and not names_place(asked)
    ]
    if differing:
        return Verdict(name=VerdictName.UNTESTABLE, signature=verdict.signature, reasons=tuple(differing))
    if verdict.name is VerdictName.REPRODUCED:
        return verdict
    if attempt.end is None:
        reason = "the record stops before the end of the attempt; judged as far as it can be read"
        return Verdict(name=VerdictName.NO_VERDICT, reasons=(reason, *verdict.reasons))
    if attempt.end == "interrupted":
        return Verdict(name=VerdictName.NO_VERDICT, reasons=("interrupted", *verdict.reasons))
    if attempt.nonce or cell.scenario == WATCH or verdict.name is VerdictName.NO_VERDICT:
        return verdict
    return _no_nonce(attempt, verdict)


def _no_nonce(attempt: Attempt, verdict: Verdict) -> Verdict:
    """Without the end-of-run nonce nothing is ever absent, and how the program ended is part of the reasons."""
    root = attempt.processes[0] if attempt.processes else None
    how = root.status.describe() if root is not None and root.status is not None else "no exit seen"
    reason = f"the program did not say its nonce (ended by {attempt.end}; {how})"
    said = (f"its last line: {attempt.detail}",) if attempt.detail else ()
    signature = f"no nonce:{how if attempt.end == 'exited' else attempt.end}"
    if verdict.name is VerdictName.OTHER_FAILURE:
        return Verdict(name=verdict.name, signature=verdict.signature, reasons=(*verdict.reasons, reason, *said))
    return Verdict(name=VerdictName.OTHER_FAILURE, signature=signature, reasons=(reason, *said, *verdict.reasons))


def findings(attempt: Attempt) -> list[dict[str, Any]]:
    """Return the typed observations that hold whatever the scenario is about."""
    found: list[dict[str, Any]] = []
    for process in attempt.processes:
        who = {"pid": process.key.pid, "name": process.name, "role": role(process.name)}
        if process.died_ns is not None and not process.ended_by and process.status is not None:
            if not process.status.known:
                found.append({"finding": "status_unknown", **who})
            elif process.status.signal in CRASHES:
                found.append({"finding": "signal_death", **who, "signal": process.status.signal})
        if process.orphaned_s >= ORPHAN_S:
            found.append({"finding": "orphan", **who, "seconds": round(process.orphaned_s, 1)})
    found += [
        {"finding": LEFT.get(left.what, left.what)}
        | {"name": left.name, "bytes": left.bytes, "pid": left.key.pid if left.key else None}
        for left in attempt.leftovers
    ]
    found += [
        {"finding": "hang", "class": doubt.suspicion, "proved": doubt.proved, "reasons": list(doubt.reasons)}
        for doubt in attempt.suspicions
        if doubt.suspicion not in {"survivors", "deadline"}
    ]
    found += [
        {"finding": NOT_UNDONE, "name": fault.fault, "reasons": [fault.not_undone]}
        for fault in attempt.faults
        if fault.not_undone
    ]
    found += [
        {"finding": "masked_error", "name": masked.shown, "hidden": masked.hidden} for masked in tell(attempt).masked
    ]
    return found


def process_summary(attempt: Attempt) -> dict[str, Any]:
    """Return the row's account of processes; deaths by our own stop ladder are not listed."""
    return {
        "seen": len(attempt.processes),
        "status_known": sum(bool(process.status and process.status.known) for process in attempt.processes),
        "signal_deaths": [_death(process) for process in attempt.processes if _died_of_signal(process)],
        "orphans": [
            {"pid": p.key.pid, "name": p.name, "role": role(p.name), "seconds": round(p.orphaned_s, 1)}
            for p in attempt.processes
            if p.orphaned_s >= ORPHAN_S
        ],
        "left_behind": [
            {"what": left.what, "name": left.name, "bytes": left.bytes, "reclaimed": left.reclaimed}
            for left in attempt.leftovers
        ],
    }


def gpu_summary(attempt: Attempt | None) -> dict[str, Any]:
    """Return the most GPU memory that the tree held at any sample, and the most of each of its processes (MiB)."""
    names = {process.key: process.name for process in attempt.processes} if attempt else {}
    together: list[int] = []
    most: dict[ProcessKey, int] = {}
    for sample in attempt.gpu_samples if attempt else ():
        ours: dict[ProcessKey, int] = {}
        for one in sample.holders:
            key = ProcessKey(one.pid, one.start)
            if key in names:
                ours[key] = ours.get(key, 0) + (one.mib or 0)
        together.append(sum(ours.values()))
        most.update({key: max(mib, most.get(key, 0)) for key, mib in ours.items()})
    return {
        "held_mib": max(together, default=None),
        "holders": [
            {"pid": key.pid, "name": names[key], "role": role(names[key]), "mib": mib} for key, mib in most.items()
        ],
    }


def _died_of_signal(process: Process) -> bool:
    return process.status is not None and process.status.signal is not None and not process.ended_by.startswith("stop:")


def _death(process: Process) -> dict[str, Any]:
    status = process.status
    return {
        "pid": process.key.pid,
        "name": process.name,
        "role": role(process.name),
        "signal": status.signal if status else None,
        "status_source": status.source.value if status else None,
        "by": process.ended_by,
    }


def judge_cell(run: RunRecord, cell: Cell, oracle: Oracle | None) -> Row:
    """Return the row of a cell from its recorded attempts; a cell that never ran keeps its row."""
    attempts = run.attempts.get(cell.id, ())
    judged = [(attempt, judge_attempt(cell, attempt, oracle)) for attempt in attempts]
    if not judged:
        reason = "interrupted before it was started" if run.interrupted else "never started: the run ended before it"
        verdict = Verdict(name=VerdictName.NO_VERDICT, reasons=(reason,))
        return _row(run, cell, verdict, None, None, [])
    verdict = merge([judgement.verdict for _, judgement in judged])
    attempt, judgement = next(pair for pair in judged if pair[1].verdict == verdict)
    return _row(run, cell, verdict, attempt, judgement, judged)


def in_effect(installed: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Join what lay on the path with what the program said of itself, which does not know the commit of a checkout."""
    found = dict(installed) | dict(said)
    for name, value in said.items():
        _, plus, label = str(installed.get(name, "")).partition("+")
        if plus and "+" not in str(value):
            found[name] = f"{value}+{label}"
    return found


def _row(  # noqa: PLR0913, PLR0917 - every part of a row comes from another place
    run: RunRecord,
    cell: Cell,
    verdict: Verdict,
    attempt: Attempt | None,
    judgement: Judgement | None,
    judged: Sequence[tuple[Attempt, Judgement]],
) -> Row:
    verdicts = [one.verdict for _, one in judged]
    folder = f"cells/{cell.folder}/{attempt.attempt}" if attempt is not None and attempt.skipped is None else ""
    return Row(
        run=run.manifest.run,
        scenario=cell.scenario,
        cell=cell.id,
        params=cell.params,
        effective=in_effect(attempt.effective if attempt else {}, judgement.effective if judgement else {})
        | {"patches": list(judgement.patches) if judgement else []},
        kind=cell.kind,
        control_of=cell.control_of,
        expected=cell.expected,
        verdict=verdict.name,
        as_expected=as_expected(cell, verdict),
        signature=verdict.signature,
        reasons=verdict.reasons,
        attempts=len(judged),
        reproduced=sum(one.name is VerdictName.REPRODUCED for one in verdicts),
        rate=reproduction_rate(verdicts),
        processes=process_summary(attempt) if attempt else _NO_PROCESSES,
        findings=tuple(findings(attempt)) if attempt else (),
        gpu=gpu_summary(attempt),
        throughput=dict(judgement.throughput) if judgement and judgement.throughput else None,
        wall_s=round(sum(one.wall_s for one, _ in judged), 2),
        evidence=folder,
    )


_NO_PROCESSES: Final[dict[str, Any]] = {
    "seen": 0, "status_known": 0, "signal_deaths": [], "orphans": [], "left_behind": [],
}  # fmt: skip


def as_expected(cell: Cell, verdict: Verdict) -> bool | None:
    """Compare a verdict with the declared one; ``None`` where untestable or nothing was declared."""
    if cell.expected is None or verdict.name is VerdictName.UNTESTABLE:
        return None
    if verdict.name is not cell.expected:
        return False
    return cell.expected_signature is None or cell.expected_signature in (verdict.signature or "")
