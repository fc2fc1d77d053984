"""JUnit XML of runs, for CI systems: a suite per cell, so that its properties stand where every schema allows them.

A row that is as expected passes; one that is not fails; no verdict is an error; what was untestable, or had nothing to
be compared with, is skipped: a skip is never a pass. Attempts of a repeated cell that went otherwise than expected are
kept in the tags that surefire made common: ``flakyFailure`` where the cell passes all the same, ``rerunFailure``
where it fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.judge import Row
from harness.outcome import VerdictName
from harness.record import read_manifest
from reports.evidence import text_of
from reports.formats import rerun
from reports.judged import Judged, cell_of, cells_by_id, judge_attempts
from reports.load import load_rows
from reports.log import Log

if TYPE_CHECKING:
    from junitparser import Element, FinalResult
    from junitparser.xunit2 import TestCase, TestSuite

DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
NOT_XML: Final = re.compile("[^\t\n\r\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def to_junit(directories: Sequence[Path], logs: Sequence[Log] = ()) -> str:
    """Return the document of some runs; `logs` are theirs, if they have been read already.

    Raises:
        RecordError: If one of the directories holds no run, or no results.
    """
    from junitparser.xunit2 import JUnitXml

    document = JUnitXml("crashcart")
    for number, directory in enumerate(directories):
        for suite in _suites(directory, logs[number] if logs else Log(directory)):
            document.append(suite)
    document.update_statistics()
    document.time = round(document.time, 3)
    written: bytes = document.tostring()
    text = written.decode()
    text = text[text.index("<testsuites") :]  # with lxml at hand the library writes a declaration, otherwise none
    return DECLARATION + text.replace("<testsuite ", "\n<testsuite ") + "\n"


def _suites(directory: Path, log: Log) -> Iterator[TestSuite]:
    from junitparser.xunit2 import TestSuite

    cells = cells_by_id(read_manifest(directory))
    for row in load_rows(directory):
        attempts = judge_attempts(log, cell_of(cells, row), row) if row.attempts > 1 else []
        suite = TestSuite(_clean(row.cell))
        for name, value in _properties(row, attempts):
            suite.add_property(name, _clean(value))
        suite.append(_case(row, attempts))
        suite.timestamp = _timestamp(row.run)
        yield suite


def _case(row: Row, attempts: Sequence[Judged]) -> TestCase:
    """Return the test case; its parts stand in the order that the strictest schema, surefire's, asks for."""
    from junitparser import Failure, SystemOut
    from junitparser.xunit2 import TestCase

    case = TestCase(_clean(row.cell), classname=f"crashcart.{row.scenario}", time=round(row.wall_s, 3))
    outcome = _outcome(row)
    kept = [attempt for attempt in attempts if attempt.as_expected is False]
    if isinstance(outcome, Failure):
        case.append(outcome)
        kept = kept[1:]  # the first attempt that failed is the failure itself
    for attempt in kept:
        case.append(_kept(row, attempt))
    if outcome is not None and not isinstance(outcome, Failure):
        case.append(outcome)
    case.append(SystemOut(_clean(_text(row))))
    return case


def _outcome(row: Row) -> FinalResult | None:
    """Return what became of the row; ``None`` for a pass."""
    from junitparser import Error, Failure, Skipped

    why = "; ".join(row.reasons)
    if row.verdict is VerdictName.NO_VERDICT:
        return Error(_clean(why or "no verdict"), row.verdict.value)
    if row.as_expected is True:
        return None
    if row.as_expected is False:
        message = f"expected {row.expected}, got {row.verdict}" + (f" ({row.signature})" if row.signature else "")
        failure = Failure(_clean(message), row.verdict.value)
        failure.text = _clean(why)
        return failure
    message = why if row.verdict is VerdictName.UNTESTABLE else f"nothing was expected; the verdict is {row.verdict}"
    return Skipped(_clean(f"{row.verdict}: {message}"))


def _kept(row: Row, attempt: Judged) -> Element:
    """Return an attempt of a repeated cell that went otherwise than expected."""
    from junitparser.xunit2 import FlakyError, FlakyFailure, RerunError, RerunFailure

    verdict = attempt.verdict
    name = verdict.name if verdict is not None else VerdictName.NO_VERDICT
    error = name is VerdictName.NO_VERDICT
    tag = (FlakyError if error else FlakyFailure) if row.as_expected else (RerunError if error else RerunFailure)
    signature = f" ({verdict.signature})" if verdict is not None and verdict.signature else ""
    kept = tag(_clean(f"attempt {attempt.number}: {name}{signature}"), name.value)
    kept.stack_trace = _clean("; ".join(verdict.reasons) if verdict is not None else "")
    return kept


def _properties(row: Row, attempts: Sequence[Judged]) -> Iterable[tuple[str, str]]:
    yield "run", row.run
    yield "kind", row.kind.value
    yield "expected", row.expected.value if row.expected else "nothing"
    yield "verdict", row.verdict.value
    yield "signature", row.signature or ""
    yield "control_of", row.control_of or ""
    yield "attempts", str(row.attempts)
    yield "reproduced", str(row.reproduced)
    if row.rate is not None:
        yield "rate", f"{row.rate.low:.3f} to {row.rate.high:.3f} (Wilson, 95%)"
    for attempt in attempts:
        yield f"attempt.{attempt.number}", attempt.verdict.name.value if attempt.verdict else "unknown"
    for name, value in row.params.items():
        yield f"param.{name}", value
    for name, value in row.effective.items():
        yield f"effective.{name}", text_of(value)
    for name, value in (row.throughput or {}).items():
        yield f"throughput.{name}", text_of(value)
    yield "evidence", row.evidence


def _text(row: Row) -> str:
    lines = [f"{row.kind} {row.verdict}: {'; '.join(row.reasons)}", f"again: {rerun(row)}", f"evidence: {row.evidence}"]
    lines += [text_of(finding) for finding in row.findings]
    return "\n".join(lines)


def _timestamp(run: str) -> str:
    """Return the time in a run's name as ISO 8601, or nothing if the run has another name."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", run)
    return "{}-{}-{}T{}:{}:{}".format(*found.groups()) if found else ""


def _clean(text: str) -> str:
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
