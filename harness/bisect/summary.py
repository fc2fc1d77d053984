"""What a bisection says in the end: the sentence for a bug report, the table, the picture of the posterior. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from harness.bisect.decide import Counts, Observation, effect, wanted_signature
from harness.bisect.history import Direction
from harness.bisect.knobs import KnobConclusion, KnobSettings
from harness.bisect.search import ContradictionError
from harness.bisect.steps import Conclusion, Settings, View
from harness.bisect.trust import suspicions

BARS: Final = " ▁▂▃▄▅▆▇█"
WIDTH: Final = 48
SHOWN: Final = 0.01
NAME: Final = 64


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A concluded bisection in words and numbers; ``--json`` prints it."""

    scenario: str
    named: bool
    sentence: str
    culprit: str | None = None
    candidates: tuple[str, ...] = ()
    """All that the culprit may be, where untestable versions lie between."""
    parent: str | None = None
    members: tuple[str, ...] = ()
    """Of a search over knobs."""
    probability: float = 0.0
    p_value: float | None = None
    confirmed: dict[str, Counts] = {}
    suspicions: tuple[str, ...] = ()
    artefacts: tuple[str | None, str | None] = (None, None)
    """Hashes of what the culprit and its parent put in place."""
    skipped: dict[str, str] = {}
    signature: str | None = None
    runs: int = 0
    wall_s: float = 0.0


def short(name: str) -> str:
    """Return a name that fits into a table; that of a configuration with many knobs does not."""
    return name if len(name) <= NAME else f"{name[: NAME // 2 - 1]}…{name[-NAME // 2 :]}"


def percent(probability: float) -> str:
    """Return a probability in percent, without claiming certainty."""
    return f"{probability:.1%}" if probability < 0.999 else "more than 99.9%"  # noqa: PLR2004 - as printed


def picture(view: View, width: int = WIDTH) -> str:
    """Return the posterior over the whole range as bars, good end on the left."""
    try:
        posterior = view.posterior()
    except (ContradictionError, ValueError):
        return ""
    width = min(width, posterior.size)
    edges = [round(index * posterior.size / width) for index in range(width + 1)]
    below = [posterior.at_most(edge) for edge in edges]
    masses = [high - low for low, high in pairwise(below)]
    top = max(masses)
    return "".join(BARS[round(mass / top * (len(BARS) - 1))] for mass in masses)


def report(
    scenario: str,
    settings: Settings,
    log: Sequence[Observation],
    conclusion: Conclusion,
    hashes: tuple[str | None, str | None] = (None, None),
) -> Report:
    """Return the report of a search over versions; ``hashes`` are those of the culprit and of its parent."""
    view = View.of(settings, log)
    history = settings.history
    signature = wanted_signature(log, settings.signature)
    common = Report(
        scenario=scenario,
        named=conclusion.named,
        sentence=f"No culprit is named for {scenario}: {conclusion.reason}.",
        skipped={history.names[position]: reason for position, reason in view.skips.items()},
        signature=signature,
        runs=len(log),
        wall_s=round(sum(one.wall_s + one.switch_s for one in log), 1),
    )
    if not conclusion.named or conclusion.first is None or conclusion.last is None or conclusion.parent is None:
        return common
    doubts = suspicions(
        culprit=conclusion.last,
        counts=view.counts,
        culprit_hash=hashes[0],
        parent_hash=hashes[1],
        confirmed=conclusion.confirmed,
    )
    span = range(conclusion.first, conclusion.last + 1)
    names = tuple(history.culprit(position) for position in span)
    bad, good = history.names[conclusion.last], history.names[conclusion.parent]
    report = msgspec.structs.replace(
        common,
        culprit=history.culprit(conclusion.last),
        candidates=names if len(names) > 1 else (),
        parent=history.parent(conclusion.last),
        probability=conclusion.probability,
        p_value=conclusion.p_value,
        confirmed={bad: conclusion.confirmed[0], good: conclusion.confirmed[1]},
        suspicions=doubts,
        artefacts=hashes,
    )
    return msgspec.structs.replace(report, sentence=_sentence(report, history.direction, len(history.names)))


def _sentence(report: Report, direction: Direction, size: int) -> str:
    verb = "broke" if direction is Direction.FIRST_BAD else "fixed"
    who = f"one of {', '.join(report.candidates)}" if report.candidates else report.culprit
    counts = ", ".join(f"{name} {one.fails} of {one.runs}" for name, one in report.confirmed.items())
    failure = f"{report.scenario} ({report.signature})" if report.signature else report.scenario
    p = f"{report.p_value:.2g}" if report.p_value is not None else "-"
    text = (
        f"{who} {verb} {failure}: it is the {direction} of {size} versions with a probability of "
        f"{percent(report.probability)}, after {report.runs} runs; the one before it is {report.parent}. "
        f"Interleaved runs that failed: {counts} (Fisher's exact test, one-sided: p = {p})."
    )
    if report.skipped:
        text += f" Not tested: {', '.join(report.skipped)}."
    if report.suspicions:
        text += f" Suspicious: {'; '.join(report.suspicions)}."
    return text


def knob_report(
    scenario: str, settings: KnobSettings, log: Sequence[Observation], conclusion: KnobConclusion
) -> Report:
    """Return the report of a search over knobs."""
    signature = wanted_signature(log, settings.signature)
    sentence = f"No set of knobs is named for {scenario}: {conclusion.reason}."
    confirmed = {"+".join(conclusion.members): conclusion.together} | {
        f"without {member}": count for member, count in zip(conclusion.members, conclusion.without, strict=False)
    }
    if conclusion.named:
        values = {knob.name: knob.failing for knob in settings.knobs}
        members = " and ".join(f"{name}={values[name]}" if values[name] else name for name in conclusion.members)
        counts = ", ".join(f"{name} {one.fails} of {one.runs}" for name, one in confirmed.items())
        sentence = (
            f"{members} is what makes {scenario} fail ({signature}), out of {len(settings.knobs)} knobs, with a "
            f"probability of {percent(conclusion.probability)}, after {len(log)} runs. Runs that failed: {counts} "
            f"(Fisher's exact test, one-sided: p = {', '.join(f'{p:.2g}' for p in conclusion.p_values)})."
        )
    return Report(
        scenario=scenario,
        named=conclusion.named,
        sentence=sentence,
        members=conclusion.members,
        probability=conclusion.probability,
        p_value=max(conclusion.p_values, default=None),
        confirmed=confirmed if conclusion.members else {},
        signature=signature,
        runs=len(log),
        wall_s=round(sum(one.wall_s for one in log), 1),
    )


COLUMNS: Final = ("run", "version", "why", "verdict", "counted", "s", "signature or reason")


def history_table(log: Sequence[Observation], asked: str | None) -> list[tuple[str, ...]]:
    """Return a row of texts per run, in the order of `COLUMNS`; no run is left out."""
    wanted = wanted_signature(log, asked)
    words = {True: "failed", False: "passed", None: "not counted"}
    return [
        (
            str(one.number),
            short(one.name),
            one.phase.value,
            one.verdict.value,
            words[effect(one, wanted, asked=asked is not None)],
            f"{one.wall_s:.1f}",
            one.signature or one.reason[:100],
        )
        for one in log
    ]


VERSION_COLUMNS: Final = ("version", "failed", "runs", "culprit with probability", "not tested because")


def version_table(settings: Settings, log: Sequence[Observation]) -> list[tuple[str, ...]]:
    """Return a row of texts for each version that was run, was skipped or may be the culprit, in their order."""
    view = View.of(settings, log)
    chances: dict[int, float] = {}
    try:
        posterior = view.posterior()
        chances = {view.slots.positions[slot]: posterior.probability(slot) for slot in range(1, posterior.size + 1)}
    except (ContradictionError, ValueError):
        pass
    shown = sorted({*view.counts, *view.skips, *(position for position, chance in chances.items() if chance >= SHOWN)})
    return [
        (
            settings.history.names[position],
            str(view.at(position).fails),
            str(view.at(position).runs),
            f"{chances[position]:.1%}" if position in chances else "-",
            view.skips.get(position, "")[:80],
        )
        for position in shown
    ]
