"""What lies on disk and what is read from the outside: the log, the axes, the exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bisect.axes import nightlies, ordered, vectors, wanted, wheels
from harness.bisect.decide import Observation, Phase
from harness.bisect.export import git_log
from harness.bisect.forecast import bound, forecast
from harness.bisect.history import Candidate, Direction, History, Slots, orient
from harness.bisect.log import BisectLog, Finished, Saved, Started, load, read, save
from harness.bisect.one import Target
from harness.bisect.page import page
from harness.bisect.policy import Costs
from harness.bisect.rates import DEFAULT, Known
from harness.bisect.search import Posterior
from harness.bisect.setup import read_knobs, refusal
from harness.bisect.steps import Settings, Task
from harness.bisect.summary import report
from harness.errors import RecordError, UsageError
from tests.unit.bisect.worlds import World, history, search


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(name=name) for name in names]


@pytest.mark.parametrize(
    ("good", "bad", "fixed", "direction", "names"),
    [
        (None, None, False, Direction.FIRST_BAD, "abcd"),
        (None, None, True, Direction.FIRST_FIXED, "dcba"),
        ("b", "d", False, Direction.FIRST_BAD, "bcd"),
        ("d", "b", False, Direction.FIRST_FIXED, "dcb"),
        (None, "c", False, Direction.FIRST_BAD, "abc"),
    ],
)
def test_the_ends_say_the_direction(
    good: str | None, bad: str | None, fixed: bool, direction: Direction, names: str
) -> None:
    made = orient(candidates(*"abcd"), good=good, bad=bad, first_fixed=fixed)
    assert (made.direction, "".join(made.names)) == (direction, names)


@pytest.mark.parametrize(("good", "bad"), [("x", None), ("b", "b")])
def test_wrong_ends_are_said(good: str | None, bad: str | None) -> None:
    with pytest.raises(UsageError):
        orient(candidates(*"abcd"), good=good, bad=bad)


def test_slots_leave_out_what_cannot_be_tested() -> None:
    slots = Slots.of(6, {2, 3})
    assert slots.positions == (0, 1, 4, 5)
    assert slots.weights() == [1, 3, 1]
    assert (slots.slot(4), slots.slot(3), slots.span(2)) == (2, None, (2, 4))


def test_a_torn_log_is_read_and_gone_on_with(tmp_path: Path) -> None:
    task = Task(position=3, phase=Phase.SEARCH)
    one = World(2).run(task, 1)
    log = BisectLog(tmp_path)
    log.write(Started(number=1, task=task, directory="runs/00001"))
    log.write(Finished(observation=one))
    log.write(Started(number=2, task=task, directory="runs/00002"))
    log.close()
    with (tmp_path / "log.jsonl").open("ab") as stream:
        stream.write(b'{"type":"finished","observ')
    recorded = read(tmp_path)
    assert recorded.observations == (one,)
    assert [entry.number for entry in recorded.unfinished] == [2]
    again = BisectLog(tmp_path)
    again.write(Finished(observation=World(2).run(task, 2)))
    again.close()
    assert (len(read(tmp_path).observations), read(tmp_path).unfinished, read(tmp_path).runs) == (2, (), 2)


def test_settings_survive_the_disk(tmp_path: Path) -> None:
    saved = Saved(crashcart="0", target=Target(scenario="s"), settings=Settings(history=history(4)), axis={"kind": "x"})
    save(tmp_path, saved)
    assert load(tmp_path) == saved
    (tmp_path / "bisect.json").write_text("{")
    with pytest.raises(RecordError, match="damaged"):
        load(tmp_path)
    with pytest.raises(RecordError, match="holds no bisection"):
        load(tmp_path / "nowhere")
    save(tmp_path, Saved(schema=9, crashcart="0", target=Target(scenario="s")))
    with pytest.raises(RecordError, match="schema 9"):
        load(tmp_path)


def test_git_is_told_only_what_is_sure() -> None:
    """A version that passed once and may yet be bad is a comment; the culprit's parent is good."""
    settings = Settings(history=history(50))
    _, log = search(settings, World(30, rate=0.5, seed=2))
    lines = git_log(settings, log).splitlines()
    assert lines[0] == "git bisect start"
    assert {"git bisect bad v30", "git bisect good v29", "git bisect good v0"} <= set(lines)
    assert lines.index("git bisect bad v49") < lines.index("git bisect bad v30")
    assert any("# not sure" in git_log(settings, log[:cut]) for cut in range(len(log)))
    fixed = git_log(Settings(history=history(50, Direction.FIRST_FIXED)), log).splitlines()
    assert fixed[0] == "git bisect start --term-old=broken --term-new=fixed"
    assert "git bisect broken v30" in fixed


def test_wheels_are_ordered_by_version_or_as_listed(tmp_path: Path) -> None:
    for version in ("1.10", "1.9", "1.9.post1"):
        (tmp_path / f"some_lib-{version}-py3-none-any.whl").touch()
    (tmp_path / "other-1.0-py3-none-any.whl").touch()
    found = wheels("some-lib", tmp_path)
    assert [one.name for one in found] == ["1.9", "1.9.post1", "1.10"]
    assert wanted(found[0]) == [("some-lib", "1.9", str(tmp_path / "some_lib-1.9-py3-none-any.whl"))]
    listed = tmp_path / "wheels.txt"
    listed.write_text(
        "# per commit\nhttps://example.invalid/aa/some_lib-1.9.dev2%2Bgaa-py3-none-any.whl\n"
        "https://example.invalid/bb/some_lib-1.9.dev1+gbb-py3-none-any.whl\n"
    )
    assert [one.name for one in wheels("some-lib", listed)] == ["1.9.dev2+gaa", "1.9.dev1+gbb"]
    with pytest.raises(UsageError, match="no wheel of absent"):
        wheels("absent", tmp_path)
    with pytest.raises(UsageError, match="no folder and no list"):
        wheels("absent", tmp_path / "nowhere")


def test_nightlies_and_vectors(tmp_path: Path) -> None:
    days = nightlies("torch", "2026-02-27..2026-03-01", "2.14.0.dev{date}")
    assert [one.name for one in days] == [f"2.14.0.dev{date}" for date in ("20260227", "20260228", "20260301")]
    with pytest.raises(UsageError, match="not of the form"):
        nightlies("torch", "yesterday..today", "{date}")
    with pytest.raises(UsageError, match="names no versions"):
        nightlies("torch", "2026-02-27..2026-03-01", "2.14.0")
    place = tmp_path / "vectors"
    place.write_text("torch==2.12.0 vllm==0.31.0  # June\n\ntorch==2.13.0 vllm==0.31.0\n")
    first, second = vectors(place)
    assert wanted(first) == [("torch", "2.12.0", None), ("vllm", "0.31.0", None)]
    assert second.name == "torch==2.13.0 vllm==0.31.0"
    place.write_text("torch 2.12.0\n")
    with pytest.raises(UsageError, match="is no vector"):
        vectors(place)


def test_versions_are_ordered_as_releases() -> None:
    assert ordered(["0.10", "0.9", "0.9.post1", "0.9rc1", "0.9"]) == ["0.9rc1", "0.9", "0.9.post1", "0.10"]
    with pytest.raises(UsageError, match="invalid version"):
        ordered(["0.1", "newest"])


def test_knobs_are_read(tmp_path: Path) -> None:
    place = tmp_path / "knobs.toml"
    dtype = '[axis.dtype]\nfailing = "half"\npassing = "float"\n'
    place.write_text(f'[env.A]\nfailing = 1\n{dtype}[flag."--eager"]\nfailing = true\n')
    found = [(knob.name, knob.kind, knob.failing, knob.passing) for knob in read_knobs(place)]
    assert found == [("A", "env", "1", None), ("dtype", "axis", "half", "float"), ("--eager", "flag", "", None)]
    for text, says in (
        ("[env.A]\nfailing = 1\npassing = 1\n", "the same value"),
        ("[enf.A]\n", "unknown table 'enf'"),
        ("", "names no knob"),
        ("[", "cannot read"),
    ):
        place.write_text(text)
        with pytest.raises(UsageError, match=says):
            read_knobs(place)


@pytest.mark.parametrize(("rate", "size"), [(1.0, 64), (0.2, 256)])
def test_the_forecast_comes_true(rate: float, size: int) -> None:
    """Half of real searches take at most as many runs as the forecast says for half of them, give or take."""
    settings = Settings(history=history(size + 1), rate=rate, scouts=0)
    one = forecast(Posterior.start(size, Known(rate)), Costs(), 0.95, trials=100)
    assert bound(size, rate) * 0.85 <= one.runs <= one.runs_p95
    took = []
    for seed in range(12):
        _, log = search(settings, World(1 + (seed * 37) % size, rate=rate, seed=seed))
        took.append(sum(entry.phase is Phase.SEARCH for entry in log))
    assert sorted(took)[6] == pytest.approx(one.runs_p50, rel=0.5)


def test_a_budget_that_cannot_answer_is_refused() -> None:
    one = forecast(Posterior.start(1000, Known(0.2)), Costs(), 0.95, trials=5)
    few = Settings(history=history(1001), rate=0.2, budget_runs=50)
    reason = refusal(few, one)
    assert reason is not None
    assert "the budget of 50 runs cannot tell 1000 candidates apart at a rate of 0.2: no method needs fewer" in reason
    short = Settings(history=history(1001), rate=0.2, budget_s=60, passing_s=30)
    assert "too short" in (refusal(short, one) or "")
    assert refusal(Settings(history=history(1001), rate=0.2, budget_runs=500), one) is None
    assert refusal(Settings(history=history(1001), budget_runs=9), one) is not None


def test_a_forecast_of_rare_failures_is_bounded_work() -> None:
    assert forecast(Posterior.start(2000, DEFAULT), Costs(), 0.96, trials=8).runs > 15


def test_the_page_holds_every_run_and_escapes_what_it_shows() -> None:
    settings = Settings(history=History(direction=Direction.FIRST_BAD, candidates=tuple(candidates("<a>", "b", "c"))))
    conclusion, log = search(settings, World(2))
    text = page(report("x<y", settings, log, conclusion), settings, None, log)
    assert text.count("<tr class=") == len(log)
    assert "&lt;a&gt;" in text
    assert "x<y" not in text
    empty: list[Observation] = []
    assert "Every run" in page(report("x", settings, empty, conclusion), None, None, empty)
