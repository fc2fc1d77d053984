"""One ``crashcart bisect`` from its options to its exit code: set up or go on, drive, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from tabulate import tabulate

from harness import __version__
from harness.bisect.brains import Brain, KnobBrain, VersionBrain, axis_of
from harness.bisect.command import CommandSpec
from harness.bisect.commits import commit_name
from harness.bisect.decide import Observation
from harness.bisect.driver import Driver, Outcome
from harness.bisect.export import git_log
from harness.bisect.history import orient
from harness.bisect.knobs import KnobConclusion, KnobSettings
from harness.bisect.live import LiveView, in_words
from harness.bisect.log import SETTINGS, Saved, load, read, save
from harness.bisect.page import page
from harness.bisect.setup import (
    Ask,
    candidates_of,
    expected_s,
    first_forecast,
    read_knobs,
    refusal,
    target_of,
)
from harness.bisect.steps import Conclusion, Settings, Task, Wait
from harness.bisect.summary import (
    COLUMNS,
    VERSION_COLUMNS,
    Report,
    history_table,
    knob_report,
    report,
    version_table,
)
from harness.errors import ExitCode, UsageError
from harness.plan import parse_selection
from harness.record import new_run_id

PAGE: Final = "report.html"
RESULT: Final = "result.json"

Hashes = tuple[str | None, str | None]


def start(options: Mapping[str, Any], argv: tuple[str, ...]) -> int:
    """Set up a bisection, or go on with the one in ``--out``, and drive it to its end.

    Raises:
        UsageError: If the request cannot be carried out.
        RecordingError: If the log cannot be written.
    """
    directory: Path = options["out"] or Path("runs") / f"bisect-{new_run_id()}"
    if (directory / SETTINGS).exists():
        saved = load(directory)
        if options["scenario"] not in {None, saved.target.scenario}:
            msg = f"{directory} holds a bisection of {saved.target.scenario}"
            raise UsageError(msg, hint="name another --out, or go on with `crashcart bisect --out` alone")
        saved = _with_budget(saved, options)
        save(directory, saved)
        click.echo(f"crashcart: going on with {directory}, {len(read(directory).observations)} runs", err=True)
    else:
        if directory.exists() and any(directory.iterdir()):
            msg = f"{directory} is not empty and holds no bisection"
            raise UsageError(msg, hint="name a new directory with --out")
        saved = settle(options, argv)
        refused = _announce(saved, directory)
        if refused is not None:
            click.echo(f"crashcart: refused: {refused}", err=True)
            return ExitCode.NO_VERDICT
        save(directory, saved)
    with LiveView(saved.settings, _asked(saved)) as view:
        outcome = Driver(directory, saved, brain_of(saved, directory), runners=options["runners"], watcher=view).run()
    if outcome.conclusion is None:
        click.echo(f"crashcart: interrupted; go on with: crashcart bisect --out {directory}", err=True)
        return ExitCode.INTERRUPTED
    return conclude(directory, saved, outcome, json=options["as_json"])


def _with_budget(saved: Saved, options: Mapping[str, Any]) -> Saved:
    """Return the settings with another budget, if one was given: all else of a begun bisection stays as it was."""
    runs, hours = options["budget_runs"], options["budget_hours"]
    changes: dict[str, Any] = {"budget_runs": runs} if runs is not None else {}
    if saved.settings is not None:
        changes |= {"budget_s": hours * 3600} if hours is not None else {}
        return msgspec.structs.replace(saved, settings=msgspec.structs.replace(saved.settings, **changes))
    if saved.knobs is not None:
        return msgspec.structs.replace(saved, knobs=msgspec.structs.replace(saved.knobs, **changes))
    return saved


def settle(options: Mapping[str, Any], argv: tuple[str, ...]) -> Saved:
    """Return the settings that the options ask for.

    Raises:
        UsageError: If they make no sense together.
    """
    if options["scenario"] is None:
        msg = "no SCENARIO, and --out holds no bisection to go on with"
        raise UsageError(msg, hint="crashcart bisect actor_gc --axis verl --first-fixed")
    spec = None
    if options["command_line"]:
        spec = CommandSpec(
            argv=options["command_line"],
            pattern=options["pattern"],
            cwd=str(Path.cwd()),
            deadline_s=options["deadline"],
        )
    params = {name: values[0] for name, values in parse_selection(options["parameters"]).items()}
    target = target_of(options["scenario"], params, spec, options["without"])
    if options["knobs"] is not None:
        knobs = KnobSettings(
            knobs=read_knobs(options["knobs"]),
            signature=options["signature"],
            rate=options["rate"],
            budget_runs=options["budget_runs"],
            **({"stop": options["stop"]} if options["stop"] else {}),
        )
        return Saved(crashcart=__version__, target=target, knobs=knobs, argv=argv)
    ask = Ask(**{name: options[name] for name in Ask.__dataclass_fields__})
    candidates, axis = candidates_of(target, ask)
    good, bad = (options[end] for end in ("good", "bad"))
    if ask.git is not None:
        good, bad = (commit_name(ask.git, end) for end in (good, bad))
    hours = options["budget_hours"]
    settings = Settings(
        history=orient(candidates, good=good, bad=bad, first_fixed=options["first_fixed"]),
        signature=options["signature"],
        rate=options["rate"],
        stop=options["stop"],
        scouts=options["scouts"],
        budget_runs=options["budget_runs"],
        budget_s=hours * 3600 if hours is not None else None,
        passing_s=expected_s(target),
        failing_s=options["fail_cost"],
        switch_s=options["switch_cost"],
    )
    return Saved(crashcart=__version__, target=target, settings=settings, axis=axis, argv=argv)


def _asked(saved: Saved) -> str | None:
    settings = saved.settings or saved.knobs
    return settings.signature if settings is not None else None


def brain_of(saved: Saved, directory: Path) -> Brain:
    """Return what drives the bisection.

    Raises:
        UsageError: If the file says neither versions nor knobs.
    """
    if saved.settings is not None:
        return VersionBrain(saved.settings, axis_of(saved.axis, directory))
    if saved.knobs is not None:
        return KnobBrain(saved.knobs)
    msg = "the bisection has neither versions nor knobs"
    raise UsageError(msg)


def _announce(saved: Saved, directory: Path) -> str | None:
    """Say what will be done and how long it will take; return why it is refused, or ``None``."""
    if saved.settings is None:
        count = len(saved.knobs.knobs) if saved.knobs is not None else 0
        click.echo(f"crashcart: {count} knobs of {saved.target.scenario}; record in {directory}", err=True)
        return None
    settings = saved.settings
    names = settings.history.names
    one = first_forecast(settings)
    rate = f"a rate of {settings.rate:g}" if settings.rate is not None else "an unknown rate"
    click.echo(
        f"crashcart: {settings.history.direction} of {len(names)} versions, {names[0]} (good) … {names[-1]} (bad), at "
        f"{rate}: {in_words(one)}, after the ends are checked; record in {directory}",
        err=True,
    )
    return refusal(settings, one)


def report_of(
    directory: Path, saved: Saved, log: Sequence[Observation], conclusion: Conclusion | KnobConclusion
) -> Report:
    """Return the report of a conclusion; what was hashed when it was made is not hashed again."""
    if isinstance(conclusion, KnobConclusion) and saved.knobs is not None:
        return knob_report(saved.target.scenario, saved.knobs, log, conclusion)
    if isinstance(conclusion, KnobConclusion) or saved.settings is None:
        msg = "the conclusion does not belong to the bisection"
        raise TypeError(msg)
    hashes: Hashes = (None, None)
    if conclusion.last is not None and conclusion.parent is not None:
        hashes = _hashed(directory) or _hash(directory, saved, saved.settings, conclusion.last, conclusion.parent)
    name = saved.target.scenario
    if saved.target.command is not None:
        program, *arguments = saved.target.command.argv
        name = " ".join([Path(program).name, *arguments])[:60]
    return report(name, saved.settings, log, conclusion, hashes)


def _hash(directory: Path, saved: Saved, settings: Settings, culprit: int, parent: int) -> Hashes:
    axis = axis_of(saved.axis, directory)
    candidates = settings.history.candidates
    return axis.fingerprint(candidates[culprit]), axis.fingerprint(candidates[parent])


def _hashed(directory: Path) -> Hashes | None:
    try:
        before = msgspec.json.decode((directory / RESULT).read_bytes(), type=Report)
    except (OSError, msgspec.DecodeError):
        return None
    return before.artefacts if before.named else None


def conclude(directory: Path, saved: Saved, outcome: Outcome, *, json: bool) -> int:
    """Write the page and the result, and print them."""
    if outcome.conclusion is None:
        return ExitCode.INTERRUPTED
    made = report_of(directory, saved, outcome.log, outcome.conclusion)
    (directory / PAGE).write_text(page(made, saved.settings, _asked(saved), outcome.log))
    (directory / RESULT).write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    if made.named and saved.settings is not None:
        axis_of(saved.axis, directory).close()
    _print(saved, outcome.log, made, json=json)
    click.echo(f"crashcart: record in {directory}, page {directory / PAGE}", err=True)
    return ExitCode.OK if made.named else ExitCode.NO_VERDICT


def _print(saved: Saved, log: Sequence[Observation], made: Report, *, json: bool) -> None:
    if json:
        click.echo(msgspec.json.encode(made).decode())
        return
    click.echo(tabulate(history_table(log, _asked(saved)), headers=COLUMNS, disable_numparse=True))
    if saved.settings is not None:
        click.echo()
        click.echo(tabulate(version_table(saved.settings, log), headers=VERSION_COLUMNS, disable_numparse=True))
    click.echo(f"\n{made.sentence}")


def replay(directory: Path, *, git: bool, json: bool) -> int:
    """Print what a stored bisection says, worked out anew from its log; run nothing.

    Raises:
        UsageError: If there is no bisection, or ``--git-log`` is asked of one without versions.
    """
    saved, log = load(directory), read(directory).observations
    if git:
        if saved.settings is None:
            msg = f"{directory} is a search over knobs, which git bisect has no word for"
            raise UsageError(msg)
        click.echo(git_log(saved.settings, log), nl=False)
        return ExitCode.OK
    step = brain_of(saved, directory).step(log, (), log[-1].position if log else None, log[-1].runner if log else 0)
    if isinstance(step, Task | Wait):
        brain = brain_of(saved, directory)
        goes = (
            f"next would be {brain.name(step)} ({step.phase.value})" if isinstance(step, Task) else "a run is pending"
        )
        step = (
            Conclusion(named=False, reason=f"it is not finished; {goes}")
            if saved.settings is not None
            else KnobConclusion(named=False, reason=f"it is not finished; {goes}")
        )
    made = report_of(directory, saved, log, step)
    _print(saved, log, made, json=json)
    return ExitCode.OK if made.named else ExitCode.NO_VERDICT
