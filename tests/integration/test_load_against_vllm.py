"""The load generator's figures beside those of ``vllm bench serve``: its own code, over the same requests."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from typing import Any

import pytest

from scenarios.workloads.client import OpenAIClient
from scenarios.workloads.load import Ask
from scenarios.workloads.metrics import PERCENTILES, Answer, Metrics, Spread, measure
from tests.unit.workloads.test_load import CHUNK, DONE, FULL, HEAD, serving

pytestmark = [
    pytest.mark.real_stack,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def serve() -> Any:
    """Import vLLM's benchmark, or skip with the reason."""
    return pytest.importorskip("vllm.benchmarks.serve", reason="vLLM is not installed", exc_type=ImportError)


def random_answers(seed: int, count: int) -> list[Answer]:
    """Return answers of all shapes: one token, many, several in a chunk, cut, failed."""
    chance = random.Random(seed)
    answers = []
    for index in range(count):
        sent_s = chance.uniform(0, 20)
        moment, chunk_s = sent_s + chance.uniform(0.001, 0.5), []
        for _ in range(chance.choice([1, 1, 2, 5, 50, 300])):
            chunk_s.append(moment)
            moment += chance.expovariate(100)
        fate = chance.random()
        answers.append(
            Answer(
                index=index,
                due_s=sent_s - chance.choice([0.0, 0.3]),
                sent_s=sent_s,
                chunk_s=tuple(chunk_s),
                ended_s=moment,
                prompt_tokens=chance.randrange(1, 100),
                output_tokens=len(chunk_s) + chance.choice([0, 0, 3]),
                finish_reason="length" if fate > 0.2 else None,
                error="HTTP 500" if fate < 0.1 else None,
            )
        )
    return answers


def as_vllm(serve: Any, answer: Answer) -> Any:
    """Return one of vLLM's outputs with the same times."""
    return serve.RequestFuncOutput(
        success=answer.ok,
        latency=answer.latency_s,
        output_tokens=answer.output_tokens,
        ttft=answer.ttft_s,
        itl=list(answer.gaps_s),
        prompt_len=answer.prompt_tokens,
        start_time=answer.sent_s,
        error=str(answer.failure or ""),
    )


def figures(ours: Metrics) -> dict[str, float]:
    """Return our figures under vLLM's names."""
    found: dict[str, float] = {
        "completed": ours.requests_ok,
        "failed": ours.requests_failed,
        "total_input": ours.input_tokens,
        "total_output": ours.output_tokens,
        "request_throughput": ours.request_throughput,
        "output_throughput": ours.output_tok_s,
        "total_token_throughput": ours.total_tok_s,
    }
    spreads: dict[str, Spread] = {"ttft": ours.ttft, "tpot": ours.tpot, "itl": ours.itl, "e2el": ours.e2el}
    for name, spread in spreads.items():
        found |= {f"mean_{name}_ms": spread.mean, f"median_{name}_ms": spread.median, f"std_{name}_ms": spread.std}
        found |= {f"p{p:g}_{name}_ms": value for p, value in spread.percentiles.items()}
    return found


def vllm_figures(theirs: Any) -> dict[str, float]:
    """Return vLLM's figures, the percentiles among them."""
    found: dict[str, float] = {}
    for name, value in dataclasses.asdict(theirs).items():
        if name.startswith("percentiles_"):
            found |= {f"p{p:g}_{name.removeprefix('percentiles_')}": float(one) for p, one in value}
        else:
            found[name] = float(value)
    return found


@pytest.mark.parametrize(("seed", "count"), [(1, 1), (2, 7), (3, 200), (4, 1000)])
def test_every_figure_is_that_of_vllm_bench_serve(serve: Any, seed: int, count: int) -> None:
    """Within 0.1% was asked for; they are the same but for rounding."""
    answers = random_answers(seed, count)
    theirs, _ = serve.calculate_metrics(
        [], [as_vllm(serve, answer) for answer in answers], 25.0, None, list(PERCENTILES), {}
    )
    ours, expected = figures(measure(answers, 25.0)), vllm_figures(theirs)
    assert len(ours) == 31
    for name, value in ours.items():
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name


def test_one_wrong_definition_would_show(serve: Any) -> None:
    """With the first token counted in, TPOT is another figure: the comparison above can fail."""
    answers = random_answers(3, 200)
    theirs, _ = serve.calculate_metrics([], [as_vllm(serve, one) for one in answers], 25.0, None, [50.0], {})
    wrong = [1000 * answer.latency_s / answer.output_tokens for answer in answers if answer.ok]
    assert sum(wrong) / len(wrong) != pytest.approx(theirs.mean_tpot_ms, rel=1e-3)


def asked_by_both(serve: Any, sent: bytes) -> tuple[Answer, Any]:
    """Return the same stream as our client and vLLM's see it."""

    async def go() -> tuple[Answer, Any]:
        import aiohttp

        async with serving(sent) as url:
            async with OpenAIClient(url, model="m") as client:
                ours = await client.send(Ask(index=0, output_tokens=2, prompt="a"))
            asked = serve.RequestFuncInput(
                prompt="a", api_url=f"{url}/v1/completions", prompt_len=1, output_len=2, model="m"
            )
            async with aiohttp.ClientSession() as session:
                theirs = await serve.ASYNC_REQUEST_FUNCS["openai"](request_func_input=asked, session=session)
        return ours, theirs

    return asyncio.run(go())


def test_a_whole_answer_is_one_to_both(serve: Any) -> None:
    ours, theirs = asked_by_both(serve, HEAD + b"\r\n" + FULL)
    assert (ours.ok, theirs.success) == (True, True)
    assert (ours.text, ours.output_tokens, ours.prompt_tokens) == (
        theirs.generated_text,
        theirs.output_tokens,
        theirs.prompt_len,
    )
    assert len(ours.gaps_s) == len(theirs.itl)


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"\r\n" + CHUNK % b"null",
        HEAD + b"\r\n" + CHUNK % b"null" + b"data: " + json.dumps({"error": {"code": 500}}).encode() + b"\n\n" + DONE,
    ],
    ids=["cut in good order", "error inside the stream"],
)
def test_an_answer_that_breaks_off_is_a_success_to_vllm_and_a_failure_here(serve: Any, sent: bytes) -> None:
    """The one difference, and why: a server that dies under load would look healthy."""
    ours, theirs = asked_by_both(serve, sent)
    assert (ours.ok, theirs.success) == (False, True)
