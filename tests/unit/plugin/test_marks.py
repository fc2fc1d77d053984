"""What marks say: the closest wins, option by option; what cannot be understood is one clear line."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.marks import Guard, Policy, Want, read_guard, read_want


def marks(*decorators: pytest.MarkDecorator) -> list[pytest.Mark]:
    return [decorator.mark for decorator in decorators]


def test_the_closest_mark_wins_option_by_option() -> None:
    given = marks(pytest.mark.supervised(timeout=5), pytest.mark.supervised(timeout=9, orphans="report"))
    assert read_guard(given, None, {"timeout": 99, "reruns": 3}) == Guard(timeout=5, orphans=Policy.REPORT, reruns=3)


@pytest.mark.parametrize(
    ("flaky", "own", "reruns"),
    [
        (pytest.Mark("flaky", (), {"reruns": 2}, _ispytest=True), {}, 2),
        (pytest.Mark("flaky", (4,), {}, _ispytest=True), {}, 4),
        (pytest.Mark("flaky", (), {}, _ispytest=True), {}, 1),
        (pytest.Mark("flaky", (), {"reruns": 2}, _ispytest=True), {"reruns": 0}, 0),
    ],
)
def test_the_mark_of_pytest_rerunfailures_counts(flaky: pytest.Mark, own: dict[str, int], reruns: int) -> None:
    assert read_guard(marks(pytest.mark.supervised(**own)), flaky, {}).reruns == reruns


@pytest.mark.parametrize("given", [{"timeout": 0}, {"timeout": True}, {"hang_after": "3"}, {"reruns": 1.5}, {"no": 1}])
def test_what_cannot_be_understood_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(pytest.UsageError, match="supervised"):
        read_guard(marks(pytest.mark.supervised(**given)), None, {})


@pytest.mark.parametrize(
    ("mark", "want"),
    [
        (pytest.mark.gpu, Want()),
        (pytest.mark.gpu(count=2, vendor="amd"), Want(count=2, vendor="amd")),
        (pytest.mark.cuda(memory_gib=40, nvlink=True), Want(vendor="nvidia", memory_gib=40, nvlink=True)),
        (pytest.mark.rocm(arch="gfx942"), Want(vendor="amd", arch="gfx942")),
    ],
)
def test_a_wish_for_gpus(mark: pytest.MarkDecorator, want: Want) -> None:
    assert read_want(marks(mark)) == want


def test_a_wish_in_words() -> None:
    wish = Want(count=2, vendor="nvidia", arch="sm_90", memory_gib=80, nvlink=True)
    assert wish.describe() == "2 nvidia sm_90 GPUs with 80 GiB linked by NVLink"
