"""``report.html``: one file that works offline, made from the record alone.

The page has a budget. Attempts that went otherwise than expected get their timelines first; when the budget is spent,
the other cells keep their rows, parameters and verdicts, and say how to get their timelines. No row is left out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.outcome import Kind, Verdict, VerdictName
from harness.plan import Cell
from harness.record import Manifest, read_manifest
from reports.evidence import MERGED, Excerpt, flat, merged_stacks, outputs, read_text, text_of
from reports.flame import flatten
from reports.formats import died_of, left_behind, rerun
from reports.judged import cell_of, cells_by_id, judge_attempts
from reports.load import Numbered, load_numbered
from reports.log import Log, Recorded
from reports.matrix import matrices
from reports.series import Series, read_series
from reports.story import Lane, Moment, Story, short_name, tell
from reports.timeline import LEGEND, Timeline, draw

if TYPE_CHECKING:
    from jinja2 import Environment

BUDGET: Final = 1_450_000
"""Bytes of timelines and evidence on one page; rows and matrices come on top."""
BRIEF_BUDGET: Final = 1_000_000
"""Bytes of sections without a timeline, for cells that the other budget has no room for."""
SPENT: Final = 20_000
"""What is left of a budget, in bytes, when nothing more is tried."""
OUTPUT_BYTES: Final = (600, 12_000)
STACK_BYTES: Final = 8_000
MISFITS: Final = 20
"""How many sections may turn out too big for what is left before no more is tried."""
CAUSES: Final = 30
WRONG: Final = 30
BRIEF: Final = (
    "Its timeline is not on this page, which would be too big for a phone: crashcart report RUN --format html --cell "
)
ENDS: Final = {
    "exited": "the program exited",
    "deadline": "ended at its deadline",
    "interrupted": "interrupted",
    "hang": "ended because it hung",
    "idle": "nothing was left to observe",
    "harness_error": "crashcart itself failed",
}
FAILED: Final = frozenset({VerdictName.REPRODUCED, VerdictName.OTHER_FAILURE, VerdictName.NO_VERDICT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStack:
    """Stacks of one process by one tool; no text if the file is gone."""

    who: str
    tool: str
    source: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAttempt:
    """An attempt as its section shows it."""

    number: int
    verdict: Verdict | None
    story: Story
    timeline: Timeline
    series: Sequence[Series]
    cause_title: str
    has_cause: bool
    causes: Sequence[tuple[Moment, str]]
    causes_left: int
    stacks: Sequence[ShownStack]
    merged: str
    outputs: Sequence[Excerpt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter as it was asked for and as it was."""

    name: str
    requested: str
    effective: str
    compared: str


class Page:
    """Makes the page of one run.

    Raises:
        RecordError: If the directory holds no run, or no results.
    """

    def __init__(self, directory: Path, log: Log | None = None) -> None:
        self.directory = directory
        self.manifest: Manifest = read_manifest(directory)
        self.rows = load_numbered(directory)
        self.log = log if log is not None else Log(directory)
        self._cells = cells_by_id(self.manifest)
        self._environment = _environment()
        low, high = OUTPUT_BYTES
        self._output_bytes = min(high, max(low, BUDGET // 8 // (2 * max(1, len(self.rows)))))

    def render(self, only: Sequence[str] = ()) -> str:
        """Return the page; with `only`, the cells whose ids are named, without a budget."""
        rows = [one for one in self.rows if not only or one.row.cell in only]
        folders = {one.row.cell: cell_of(self._cells, one.row).folder for one in rows}
        sections = self._sections(rows, folders, unlimited=bool(only))
        script = _asset("page.js")
        counts = Counter(one.row.as_expected for one in rows)
        by_kind = {kind: Counter(one.row.verdict for one in rows if one.row.kind is kind) for kind in Kind}
        wrong = [one for one in rows if one.row.as_expected is False]
        return self._environment.get_template("page.html.j2").render(
            manifest=self.manifest,
            notes=_notes(self.log, self.directory),
            rows=rows,
            all_rows=f"results.jsonl:{rows[0].line}-{rows[-1].line}" if rows else "results.jsonl",
            counts=counts,
            by_kind=[(kind, found) for kind, found in by_kind.items() if found],
            verdicts=list(VerdictName),
            wrong=wrong[:WRONG],
            wrong_left=max(0, len(wrong) - WRONG),
            matrices=matrices(rows),
            folder=folders,
            choices=_choices(rows),
            died_of=died_of,
            left_behind=left_behind,
            tokens=_tokens,
            legend=LEGEND,
            sections=self._safe("\n".join(sections.values())),
            with_section=sections.keys(),
            machine=list(flat({"environment": self.manifest.environment, "capabilities": self.manifest.capabilities})),
            lines=self.log.lines,
            css=self._safe(_asset("page.css")),
            js=self._safe(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )

    def _sections(self, rows: Sequence[Numbered], folders: dict[str, str], *, unlimited: bool) -> dict[int, str]:
        """Render the sections by importance, so that the budgets go where people look; return them by line.

        A cell for which no budget is left has no section: its row in the list of cells is where links to it lead.
        """
        done: dict[int, str] = {}
        whole, brief, misfits = BUDGET, BRIEF_BUDGET, 0
        for one in sorted(rows, key=_importance):
            section = (
                self._section(one, folders, brief=False) if unlimited or (whole > SPENT and misfits < MISFITS) else ""
            )
            size = len(section.encode())
            misfits += size > whole
            if section and (unlimited or size <= whole):
                whole -= size
            elif brief > SPENT:
                section = self._section(one, folders, brief=True)
                brief -= len(section.encode())
            else:
                continue
            done[one.line] = section
        return {one.line: done[one.line] for one in rows if one.line in done}

    def _section(self, one: Numbered, folders: dict[str, str], *, brief: bool) -> str:
        cell = cell_of(self._cells, one.row)
        attempts = [] if brief else list(self._attempts(one, cell))
        return self._environment.get_template("cell.html.j2").render(
            one=one,
            cell=cell,
            folder=folders[one.row.cell],
            control=folders.get(one.row.control_of or ""),
            rerun=rerun(one.row),
            parameters=_parameters(one),
            effective_lines=[line for attempt in attempts for line in attempt.story.effective_lines],
            attempts=attempts,
            brief=f"{BRIEF}'{one.row.cell}'" if brief else "",
            text_of=text_of,
            ends=ENDS,
        )

    def _attempts(self, one: Numbered, cell: Cell) -> Iterator[ShownAttempt]:
        verdicts = {judged.number: judged.verdict for judged in judge_attempts(self.log, cell, one.row)}
        for number in self.log.attempts_of(cell.id):
            recorded = self.log.read(cell.id, number)
            story = tell(cell.id, number, cell.params, recorded)
            if story is not None:
                yield self._attempt(cell, number, verdicts.get(number), story, recorded)

    def _attempt(
        self, cell: Cell, number: int, verdict: Verdict | None, story: Story, recorded: Sequence[Recorded]
    ) -> ShownAttempt:
        evidence = f"cells/{cell.folder}/{number}"
        series = read_series(self.directory, evidence, recorded, story.attempt.started_ns)
        failed = verdict is None or verdict.name in FAILED
        return ShownAttempt(
            number=number,
            verdict=verdict,
            story=story,
            timeline=draw(story, series),
            series=series,
            cause_title="First cause and what followed, as far as the record says"
            if failed
            else "Faults, errors and deaths, in the order in which they were seen",
            has_cause=failed and bool(story.incidents),
            causes=[(moment, _during(story, moment)) for moment in story.incidents[:CAUSES]],
            causes_left=max(0, len(story.incidents) - CAUSES),
            stacks=list(self._stacks(evidence, story)),
            merged=self._merged(evidence),
            outputs=outputs(self.directory, evidence, self._output_bytes),
        )

    def _stacks(self, evidence: str, story: Story) -> Iterator[ShownStack]:
        for lane, moment, path in _captures(story):
            read = read_text(self.directory, f"{evidence}/{path}", STACK_BYTES) if path else None
            yield ShownStack(
                who=f"{short_name(lane)} (pid {lane.pid})",
                tool=moment.text,
                source=read.source if read else "no file",
                line=moment.line,
                text=read.text if read else "",
            )

    def _merged(self, evidence: str) -> str:
        merged = merged_stacks(self.directory, evidence)
        if merged is None:
            return ""
        flames, depth = flatten(merged.root)
        markup = self._environment.get_template("stacks.html.j2").render(
            root=merged.root,
            flames=flames,
            depth=depth,
            suspects=merged.suspects,
            remarks=merged.remarks,
            source=f"{evidence}/{MERGED}",
        )
        return self._safe(markup)

    @staticmethod
    def _safe(text: str) -> str:
        """Mark text as markup that is already escaped."""
        from markupsafe import Markup

        return Markup(text)  # noqa: S704 - our own files, and what our own templates have escaped


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breaks"] = _breaks
    return environment


def _breaks(text: str) -> str:
    """Return the markup of a cell's id, which may be broken after each of its parts."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([,\[])", r"\1<wbr>", str(escape(text))))  # noqa: S704 - escaped just here


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _importance(one: Numbered) -> tuple[int, int]:
    row = one.row
    rank = 0 if row.as_expected is False else 1 if row.verdict in FAILED else 2 if row.as_expected is None else 3
    return rank, one.line


def _captures(story: Story) -> Iterator[tuple[Lane, Moment, str]]:
    for lane in story.lanes:
        for moment in lane.moments:
            if moment.what == "capture":
                yield lane, moment, moment.path


def _during(story: Story, moment: Moment) -> str:
    """Return the phases that were open at that time, innermost last."""
    return ", ".join(
        phase.name
        for phase in story.phases
        if phase.start_s <= moment.t_s and (phase.end_s is None or moment.t_s <= phase.end_s)
    )


def _tokens(one: Any) -> str:  # noqa: ANN401 - called by a template
    throughput = one.throughput or {}
    return f"{throughput['output_tok_s']:.0f}" if throughput.get("output_tok_s") else "-"


def _parameters(one: Numbered) -> list[Parameter]:
    requested, effective = one.row.params, one.row.effective
    names = [*requested, *(name for name in effective if name not in requested)]
    return [_parameter(name, requested, effective) for name in names]


def _parameter(name: str, requested: dict[str, str], effective: dict[str, Any]) -> Parameter:
    if name not in effective:
        return Parameter(name=name, requested=requested[name], effective="-", compared="not read back")
    was = text_of(effective[name])
    if name not in requested:
        return Parameter(name=name, requested="-", effective=was, compared="seen")
    same = was == requested[name] or requested[name] == "installed"
    return Parameter(name=name, requested=requested[name], effective=was, compared="same" if same else "DIFFERENT ✗")


def _choices(rows: Sequence[Numbered]) -> list[tuple[str, list[str]]]:
    """Return the filters with the values that occur."""
    return [
        ("verdict", [name for name in VerdictName if any(one.row.verdict is name for one in rows)]),
        ("kind", [kind for kind in Kind if any(one.row.kind is kind for one in rows)]),
        ("expected", ["yes", "no", "null"]),
        ("scenario", list(dict.fromkeys(one.row.scenario for one in rows))),
    ]


def _notes(log: Log, directory: Path) -> list[dict[str, str]]:
    """Return what a reader must know about the record itself."""
    notes = []
    if log.unreadable:
        notes.append({"text": f"{log.unreadable} lines of events.jsonl cannot be read", "source": "events.jsonl"})
    if log.ended is None:
        text = f"the record of {directory.name} stops before its end; told as far as it can be read"
        notes.append({"text": text, "source": f"events.jsonl:{log.lines}"})
    elif log.ended.interrupted:
        notes.append({"text": "the run was interrupted", "source": f"events.jsonl:{log.lines}"})
    return notes
