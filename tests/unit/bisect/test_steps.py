"""Whole searches in fake worlds: what is found, what is refused, and that a log always says the same."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from harness.bisect.decide import Phase
from harness.bisect.history import Direction
from harness.bisect.steps import Conclusion, Settings, Task, Wait, next_step
from harness.bisect.summary import picture, report, version_table
from harness.outcome import VerdictName
from tests.unit.bisect.worlds import SIGNATURE, World, history, search

SIZE = 100
CERTAIN = Settings(history=history(SIZE))


@pytest.mark.parametrize("culprit", [1, 2, 50, 98, 99])
def test_a_certain_failure_is_found_wherever_it_begins(culprit: int) -> None:
    conclusion, log = search(CERTAIN, World(culprit))
    assert (conclusion.named, conclusion.first, conclusion.last, conclusion.parent) == (
        True,
        culprit,
        culprit,
        culprit - 1,
    )
    assert conclusion.p_value is not None
    assert conclusion.p_value <= 0.05
    assert len(log) < 30


@pytest.mark.parametrize("seed", range(8))
def test_a_failure_in_one_run_of_three_is_found(seed: int) -> None:
    conclusion, _ = search(CERTAIN, World(61, rate=1 / 3, seed=seed))
    assert (conclusion.named, conclusion.last) == (True, 61)
    assert conclusion.probability >= 0.96


def test_both_ends_come_first_and_the_confirmation_alternates() -> None:
    _, log = search(CERTAIN, World(40))
    phases = [one.phase for one in log]
    assert phases == sorted(phases, key=[Phase.BAD_END, Phase.GOOD_END, Phase.SEARCH, Phase.CONFIRM, Phase.SCOUT].index)
    confirm = [one.position for one in log if one.phase is Phase.CONFIRM]
    assert confirm == [40, 39] * (len(confirm) // 2)
    assert len(confirm) >= 6
    assert {one.position for one in log if one.phase is Phase.SCOUT} == {13, 26}


def test_the_first_fixed_version_is_the_one_after_the_last_bad_one() -> None:
    """The history is turned round: position 0 is the newest version."""
    settings = Settings(history=history(20, Direction.FIRST_FIXED))
    conclusion, log = search(settings, World(8))
    made = report("leak", settings, log, conclusion)
    assert (made.culprit, made.parent) == ("v7", "v8")
    assert "v7 fixed leak" in made.sentence


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        (World(0), "the good end v0 reproduces the failure"),
        (World(SIZE), "too rare to be searched"),
    ],
)
def test_wrong_ends_are_refused(world: World, reason: str) -> None:
    conclusion, log = search(CERTAIN, world)
    assert not conclusion.named
    assert reason in conclusion.reason
    assert all(one.phase in {Phase.BAD_END, Phase.GOOD_END} for one in log)


def test_untestable_versions_are_stepped_over_and_named_as_a_range() -> None:
    """The culprit 50 and its neighbours cannot be tested: the answer is the range, not a guess."""
    untestable = dict.fromkeys(range(48, 53), (VerdictName.UNTESTABLE, None))
    conclusion, log = search(CERTAIN, World(50, strange=untestable))
    assert (conclusion.first, conclusion.last, conclusion.parent) == (48, 53, 47)
    made = report("leak", CERTAIN, log, conclusion)
    assert made.candidates == ("v48", "v49", "v50", "v51", "v52", "v53")
    assert all(sum(one.position == i for one in log) <= 1 for i in range(48, 53))


def test_another_failure_never_counts_as_bad() -> None:
    """Versions 20 to 39 die of SIGKILL, which is not the failure that is searched for: they are skipped."""
    other = dict.fromkeys(range(20, 40), (VerdictName.OTHER_FAILURE, "no nonce:exit 137"))
    conclusion, log = search(CERTAIN, World(70, strange=other))
    assert (conclusion.named, conclusion.last) == (True, 70)
    assert any(20 <= one.position < 40 for one in log)


def test_a_reproduction_with_another_signature_does_not_count() -> None:
    other = {30: (VerdictName.REPRODUCED, "SIGBUS in api_server")}
    conclusion, log = search(CERTAIN, World(60, strange=other))
    assert (conclusion.named, conclusion.last) == (True, 60)
    asked = msgspec.structs.replace(CERTAIN, signature="SIGSEGV")
    assert search(asked, World(60))[0].last == 60
    assert not search(msgspec.structs.replace(CERTAIN, signature="SIGILL"), World(60))[0].named
    assert len(log) < 40


def test_untestable_ends_move_inwards() -> None:
    ends = dict.fromkeys((0, 1, 98, 99), (VerdictName.UNTESTABLE, None))
    conclusion, log = search(CERTAIN, World(60, strange=ends))
    assert conclusion.last == 60
    assert {97, 2} <= {one.position for one in log}


def test_a_broken_machine_ends_the_search_undecided() -> None:
    class Broken(World):
        def run(self, task: Task, number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            seen = super().run(task, number)
            if number < 8:
                return seen
            return msgspec.structs.replace(seen, verdict=VerdictName.NO_VERDICT, signature=None, reason="GPU held")

    conclusion, log = search(CERTAIN, Broken(40))
    assert not conclusion.named
    assert conclusion.reason == "the last 3 runs gave no verdict: GPU held"
    assert len(log) == 10


def test_the_budget_is_kept() -> None:
    conclusion, log = search(msgspec.structs.replace(CERTAIN, budget_runs=9), World(40))
    assert (conclusion.named, len(log)) == (False, 9)
    assert "the budget of 9 runs is spent" in conclusion.reason
    conclusion, log = search(msgspec.structs.replace(CERTAIN, budget_s=7.0), World(40))
    assert (conclusion.named, len(log)) == (False, 7)


def test_a_second_transition_is_noticed() -> None:
    """Broken at 30, mended at 36, broken again at 60: a look before the culprit sees the first one, or it is said."""

    class Twice(World):
        def run(self, task: Task, number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            seen = super().run(task, number)
            mended = 36 <= task.position < 60
            return msgspec.structs.replace(seen, verdict=VerdictName.ABSENT, signature=None) if mended else seen

    conclusion, log = search(CERTAIN, Twice(15))
    made = report("leak", CERTAIN, log, conclusion)
    assert not conclusion.named or any("more than one transition" in one for one in made.suspicions)


def test_a_stated_rate_that_is_wrong_is_said() -> None:
    """Told that it always fails, the search meets a pass where only failures are possible."""
    settings = Settings(history=history(SIZE), rate=1.0)
    reasons = set()
    for seed in range(12):
        conclusion, _ = search(settings, World(50, rate=0.5, seed=seed))
        if not conclusion.named:
            reasons.add(conclusion.reason.partition(";")[0])
    assert "the observations are impossible at the stated reproduction rate" in reasons


def test_every_prefix_of_a_log_leads_to_the_next_run() -> None:
    """What was done is what would be done again: a bisection that was killed goes on where it was."""
    settings = Settings(history=history(SIZE), switch_s=4.0)
    _, log = search(settings, World(33, rate=0.4, seed=3))
    for cut, one in enumerate(log):
        step = next_step(settings, log[:cut], current=log[cut - 1].position if cut else None)
        assert isinstance(step, Task)
        assert (step.position, step.phase, step.left) == (one.position, one.phase, one.left)


def test_dear_switching_means_fewer_switches() -> None:
    def switches(cost: float) -> float:
        total = 0
        for seed in range(5):
            settings = Settings(history=history(SIZE), rate=0.3, switch_s=cost, scouts=0)
            _, log = search(settings, World(33, rate=0.3, seed=seed))
            positions = [one.position for one in log if one.phase is Phase.SEARCH]
            total += sum(before != after for before, after in pairwise(positions))
        return total / 5

    assert switches(10.0) < switches(0.0) / 1.5


def test_several_runners_are_given_different_work_and_wait_when_there_is_none() -> None:
    settings = Settings(history=history(SIZE))
    pending: list[Task] = []
    while isinstance(step := next_step(settings, [], pending=pending), Task):
        pending.append(step)
    assert isinstance(step, Wait)
    assert [task.phase for task in pending] == [Phase.BAD_END] * 3 + [Phase.GOOD_END] * 2


def test_a_confirmation_that_fails_sends_the_search_on() -> None:
    """A parent that fails while it is compared with the culprit is the new candidate, not an error."""
    settings = Settings(history=history(SIZE), rate=0.5, stop=0.6, scouts=0)
    for seed in range(20):
        conclusion, log = search(settings, World(50, rate=0.5, seed=seed))
        assert isinstance(conclusion, Conclusion)
        compared = {one.position for one in log if one.phase is Phase.CONFIRM}
        if conclusion.last == 50 and compared - {49, 50}:
            return
    pytest.fail("no search was sent on")


def test_the_picture_and_the_table_show_where_the_culprit_may_be() -> None:
    from harness.bisect.steps import View

    conclusion, log = search(CERTAIN, World(70))
    bars = picture(View.of(CERTAIN, log), width=33)
    assert bars.index("█") == 23
    assert bars.count(" ") == 32
    table = {row[0]: row for row in version_table(CERTAIN, log)}
    assert table["v70"][1] != "0"
    assert conclusion.named
    assert SIGNATURE in report("leak", CERTAIN, log, conclusion).sentence
