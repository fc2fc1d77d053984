"""Runs a guarded test in the place of pytest's own protocol, and hands its reports on as if it had run here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final, Literal

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback
from _pytest.runner import CallInfo, runtestprotocol
from _pytest.skipping import evaluate_xfail_marks

from harness.attempt import Attempt, Judgement
from harness.errors import UsageError
from harness.judge import judge_cell
from harness.leases import environment_for, lease
from harness.outcome import Verdict, VerdictName
from harness.pytest_plugin.child import FATAL
from harness.pytest_plugin.conclusions import Conclusion, conclude, last_words, merged_stacks, paragraphs, reasons
from harness.pytest_plugin.evidence import cell_of, make_session_folder, manifest, new_folder
from harness.pytest_plugin.hardware import matching, read_pool
from harness.pytest_plugin.keys import DEADLINE, GUARD, LEASED, WANT
from harness.pytest_plugin.marks import Guard
from harness.pytest_plugin.supervising import Supervised, Task, new_nonce, supervise_test
from harness.pytest_plugin.told import Phase, Told, read_told, replay_warnings
from harness.record import read_run, write_results

PHASES: Final[tuple[Phase, ...]] = ("setup", "call", "teardown")


def run_guarded(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run a test under the supervisor, again if that was declared, and report it."""
    guard = item.stash[GUARD]
    _prepare(item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    failures: list[tuple[str, str]] = []
    for attempt in range(guard.reruns + 1):
        reports = _Run(item, guard).reports()
        failed = [report for report in reports if report.failed]
        if not failed or attempt == guard.reruns:
            break
        failures.append((_message(failed[0]), failed[0].longreprtext))
        failed[0].outcome = "rerun"  # type: ignore[assignment]  # the word of pytest-rerunfailures
        item.ihook.pytest_runtest_logreport(report=failed[0])
    if failures:
        reports[-1].user_properties.append(("crashcart_attempts", len(failures) + 1))
        flaky = not any(report.failed for report in reports)
        vars(reports[-1]).update(crashcart_failures=failures, crashcart_flaky=flaky)  # travels with the report
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    _tear_down_here(item, nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash is not None else report.longreprtext


def run_unguarded(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Where supervision is off, give a test its GPUs all the same, in this process; others are pytest's own."""
    if WANT not in item.stash:
        return None
    with _leased(item) as env, pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _prepare(config: pytest.Config) -> None:
    """Make here what all children share and none of them may make for itself."""
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        factory.getbasetemp()


def _tear_down_here(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Tear down what this process had set up for earlier tests and the next one does not need."""
    call = CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), when="teardown")  # noqa: SLF001 - as in `leave_to_parent`
    if call.excinfo is not None:
        report = pytest.TestReport.from_item_and_call(item, call)
        item.ihook.pytest_runtest_logreport(report=report)


@contextmanager
def _leased(item: pytest.Item) -> Iterator[Mapping[str, str]]:
    want = item.stash.get(WANT, None)
    if want is None:
        yield {}
        return
    pool, _ = read_pool(item.config)
    with lease(matching(pool, want), want.count, item.nodeid) as gpus:
        item.stash[LEASED] = gpus
        yield environment_for(gpus)


class _Run:
    """One attempt of one test."""

    def __init__(self, item: pytest.Item, guard: Guard) -> None:
        self.item = item
        self.guard = guard
        self.cell = cell_of(item)
        self.folder = new_folder(make_session_folder(item.config), self.cell)
        self.evidence = self.folder / "cells" / self.cell.folder / "1"

    def reports(self) -> list[pytest.TestReport]:
        """Run it and return a complete set of reports, whatever became of it."""
        nonce = new_nonce()
        try:
            with ExitStack() as stack:
                env = stack.enter_context(_leased(self.item))
                done = supervise_test(self._task(nonce, env))
        except UsageError as error:
            return self._complete({"setup": self._failed("setup", error.one_line(), error.one_line())})
        attempt = done.attempt
        pid = attempt.processes[0].key.pid if attempt is not None and attempt.processes else 0
        told = read_told(self.item.config, self.evidence, nonce, pid)
        replay_warnings(self.item.config, told)
        output = self._captured()
        self._leave(told)
        if attempt is None or done.broken:
            return self._complete(self._broken(done, told))
        conclusion = conclude(attempt, replace(self.guard, timeout=self._deadline()), ended=told.ended)
        reports = self._complete(self._judged(told, attempt, conclusion, output))
        self._properties(reports[-1], conclusion)
        self._keep(reports, conclusion)
        return reports

    def _deadline(self) -> float | None:
        """The mark's own limit, or else that of pytest-timeout."""
        if self.guard.timeout is not None:
            return self.guard.timeout
        if DEADLINE in self.item.stash:
            return self.item.stash[DEADLINE]
        mark = self.item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark is not None and mark.args and mark.args[0] else None

    def _task(self, nonce: str, env: Mapping[str, str]) -> Task:
        return Task(
            item=self.item,
            guard=self.guard,
            cell=self.cell,
            manifest=manifest(self.cell, self.folder),
            folder=self.folder,
            deadline_s=self._deadline() or float("inf"),
            env=env,
            watch_gpus=bool(env) and self.item.config.option.crashcart_gpus is None,
            nonce=nonce,
        )

    def _captured(self) -> list[tuple[str, str]]:
        """Return what a phase has written that did not live to report it."""
        capture = self.item.config.pluginmanager.getplugin("capturemanager")
        if capture is None or not capture.is_globally_capturing():
            return []
        out, err = capture.read_global_capture()
        return [(f"Captured {name}", text) for name, text in (("stdout", out), ("stderr", err)) if text]

    def _leave(self, told: Told) -> None:
        """Do here what the child did to leave pytest altogether."""
        if told.exit is not None:
            self._discard()
            raise pytest.exit.Exception(told.exit["text"], told.exit["code"])
        if told.interrupt:
            raise KeyboardInterrupt(told.interrupt)

    # Reports --------------------------------------------------------------------------------------------------------

    def _broken(self, done: Supervised, told: Told) -> dict[Phase, pytest.TestReport]:
        """A failure of crashcart itself is never a pass."""
        head = f"crashcart itself failed: {done.broken.strip().splitlines()[-1]}"
        return {"setup": self._failed("setup", head, f"{done.broken}\ninternal: {told.internal}")}

    def _judged(
        self, told: Told, attempt: Attempt, found: Conclusion, output: list[tuple[str, str]]
    ) -> dict[Phase, pytest.TestReport]:
        reports: dict[Phase, pytest.TestReport] = {when: told.reports[when] for when in PHASES if when in told.reports}
        when = told.missing
        headline = found.failure
        if told.internal and when is not None:
            headline = f"pytest failed in the child: {told.internal.strip().splitlines()[-1]}"
        if when is not None:
            headline = f"{headline or 'its process ended without a report'} (in {when})"
            report = self._failed(when, headline, self._text(headline, attempt, found, told.internal))
            report.sections += output
            reports[when] = self._with_xfail(report)
        elif headline:
            headline = f"{headline} (at its exit)"
            self._spoil(reports, headline, self._text(headline, attempt, found, ""), output)
        elif found.left:
            self._spoil(reports, found.left[0], self._text("", attempt, found, ""), [])
        return reports

    def _spoil(
        self, reports: dict[Phase, pytest.TestReport], headline: str, text: str, output: list[tuple[str, str]]
    ) -> None:
        """Let the teardown fail for what came after it; one that has failed already says it, too."""
        teardown = reports["teardown"]
        if teardown.failed:
            teardown.sections.append(("crashcart", text))
        else:
            reports["teardown"] = self._failed("teardown", headline, text)
            reports["teardown"].sections += [*teardown.sections, *output]
            reports["teardown"].duration = teardown.duration
            reports["teardown"].user_properties = teardown.user_properties

    def _text(self, headline: str, attempt: Attempt, found: Conclusion, internal: str) -> str:
        return paragraphs(
            [
                (
                    headline or "the test itself has ended, but",
                    reasons(attempt)
                    or ([found.left[0]] if not headline else ["a child that said nothing has not passed"]),
                ),
                ("pytest's internal error", internal.splitlines()),
                ("python at that moment (faulthandler)", last_words(self.evidence / FATAL)),
                ("also died", found.deaths),
                ("left", (*found.left, *found.noted)),
                ("merged stacks", merged_stacks(self.evidence)),
                ("the pytest process had initialised CUDA", _cuda_here()),
                ("evidence", [str(self.folder), f"crashcart report {self.folder}"]),
            ]
        )

    def _failed(self, when: Phase, headline: str, text: str) -> pytest.TestReport:
        path, line, _ = self.item.location
        crash = ReprFileLocation(path=path, lineno=(line or 0) + 1, message=headline)
        trace = ReprTraceback([ReprEntryNative([f"{text}\n"])], None, "native")
        return self._report(when, "failed", ReprExceptionInfo(reprtraceback=trace, reprcrash=crash))

    def _report(
        self, when: Phase, outcome: Literal["passed", "failed"], longrepr: ReprExceptionInfo | None = None
    ) -> pytest.TestReport:
        return pytest.TestReport(
            nodeid=self.item.nodeid,
            location=self.item.location,
            keywords=dict.fromkeys(self.item.keywords, 1),
            outcome=outcome,
            longrepr=longrepr,
            when=when,
            user_properties=list(self.item.user_properties),
        )

    def _with_xfail(self, report: pytest.TestReport) -> pytest.TestReport:
        """A test that is known to crash or hang is marked ``xfail``; with ``raises`` it is not, nothing was raised."""
        if self.item.config.option.runxfail:
            return report
        expected = evaluate_xfail_marks(self.item)
        if expected is not None and expected.raises is None:
            report.outcome = "skipped"
            report.wasxfail = expected.reason
        return report

    def _complete(self, reports: dict[Phase, pytest.TestReport]) -> list[pytest.TestReport]:
        """Return the reports in order, with a teardown: other plugins end a test there."""
        if "teardown" not in reports:
            reports["teardown"] = self._report("teardown", "passed")
            reports["teardown"].sections.append(("crashcart", "the process was gone; nothing was torn down"))
        return [reports[when] for when in PHASES if when in reports]

    # Evidence -------------------------------------------------------------------------------------------------------

    def _properties(self, report: pytest.TestReport, found: Conclusion) -> None:
        """Say in JUnit's properties what a reader of many runs looks for."""
        said = {
            "crashcart_end": found.failure,
            "crashcart_left": "; ".join((*found.left, *found.noted)),
            "crashcart_deaths": "; ".join(found.deaths),
            "crashcart_gpus": ",".join(str(gpu.index) for gpu in self.item.stash.get(LEASED, ())),
        }
        report.user_properties += [(name, value) for name, value in said.items() if value]

    def _keep(self, reports: list[pytest.TestReport], found: Conclusion) -> None:
        failed = [report for report in reports if report.failed]
        if not failed and not found.failure and self.item.config.option.crashcart_keep == "failed":
            self._discard()
            return
        failure = found.signature or "; ".join(f"{report.when} failed" for report in failed)
        verdict = Verdict(
            name=VerdictName.OTHER_FAILURE if failure else VerdictName.ABSENT,
            signature=failure or None,
            reasons=(failure or "passed under supervision",),
        )
        row = judge_cell(read_run(self.folder), self.cell, lambda _: Judgement(verdict=verdict))
        write_results(self.folder, [row])
        reports[-1].user_properties.append(("crashcart_evidence", str(self.folder)))

    def _discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _cuda_here() -> list[str]:
    """Say so where a forked child cannot use CUDA because this process has; nothing is imported for it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return []
    return ["a forked child cannot use it then: keep CUDA out of imports, of collection and of unmarked tests"]
