"""Ten alternating runs of this load generator and of ``vllm bench serve`` against one real server.

``python benchmarks/load_against_vllm.py``. Both ask the same prompts, as many at once, for as many tokens. Printed are
the ratio of each figure, ours to theirs, over the pairs of runs, with its 95% interval; and how far the figures are
apart when our definitions are applied to the times that ``vllm bench serve`` recorded. Ends with 1 if that is more than
0.1%, or if the whole interval of the throughput's ratio is more than 5% away from 1.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from itertools import accumulate
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reports.compare import T_975
from scenarios.programs.tiny_model import tiny_model
from scenarios.programs.vllm_server import Server, start_server
from scenarios.workloads.client import measure_server
from scenarios.workloads.load import Load, asks
from scenarios.workloads.metrics import Answer, Metrics, measure

LOAD: Final = Load(requests=256, concurrency=8, warmup=1, input_tokens=32, output_tokens=64, seed=5)
AGREE: Final = 0.001
NEAR: Final = 0.05
FIGURES: Final = ("output_tok_s", "ttft_ms", "tpot_ms", "itl_ms", "e2el_ms")


def of_ours(metrics: Metrics) -> dict[str, float]:
    """Return our figures under the names of this script; latencies are means."""
    return {
        "output_tok_s": metrics.output_tok_s,
        "ttft_ms": metrics.ttft.mean,
        "tpot_ms": metrics.tpot.mean,
        "itl_ms": metrics.itl.mean,
        "e2el_ms": metrics.e2el.mean,
    }


def of_theirs(result: dict[str, Any]) -> dict[str, float]:
    """Return what ``vllm bench serve`` wrote, under the same names."""
    names = {"output_tok_s": "output_throughput"} | {name: f"mean_{name}" for name in FIGURES[1:]}
    return {name: float(result[theirs]) for name, theirs in names.items()}


def run_theirs(server: Server, folder: Path) -> dict[str, Any]:
    """Run ``vllm bench serve`` by its own entry, in this process like ours, and return its detailed result."""
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    prompts, out = folder / "prompts.jsonl", folder / "result.json"
    prompts.write_text("".join(json.dumps({"prompt": ask.prompt}) + "\n" for ask in asks(LOAD)))
    options = {
        "backend": "openai", "base-url": server.url, "endpoint": "/v1/completions", "model": server.model,
        "tokenizer": tiny_model(), "dataset-name": "custom", "dataset-path": prompts,
        "custom-output-len": LOAD.output_tokens, "num-prompts": LOAD.requests, "max-concurrency": LOAD.concurrency,
        "num-warmups": LOAD.warmup, "percentile-metrics": "ttft,tpot,itl,e2el", "temperature": 0,
        "result-dir": folder, "result-filename": out.name,
    }  # fmt: skip
    flags = ["--ignore-eos", "--disable-shuffle", "--skip-chat-template", "--save-result", "--save-detailed"]
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    given = [*flags, "--disable-tqdm", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    with redirect_stdout(io.StringIO()):
        main(parser.parse_args(given))
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def recorded_by_vllm(result: dict[str, Any]) -> list[Answer]:
    """Return the requests of a detailed result as ours."""
    parts = zip(*(result[name] for name in ("start_times", "ttfts", "itls", "input_lens", "output_lens")), strict=True)
    answers = []
    for index, (start_s, ttft_s, gaps, prompt_tokens, output_tokens) in enumerate(parts):
        chunk_s = tuple(accumulate(gaps, initial=start_s + ttft_s))
        answers.append(
            Answer(
                index=index, due_s=start_s, sent_s=start_s, chunk_s=chunk_s, ended_s=chunk_s[-1],
                prompt_tokens=prompt_tokens, output_tokens=output_tokens, finish_reason="length",
            )
        )  # fmt: skip
    return answers


def deviation(result: dict[str, Any]) -> float:
    """Return by how much our figures over vLLM's recorded times differ from vLLM's, at most, as a share."""
    ours = of_ours(measure(recorded_by_vllm(result), result["duration"]))
    return max(abs(ours[name] / theirs - 1) for name, theirs in of_theirs(result).items())


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Return the geometric mean of paired ratios, with Student's 95% interval of their logarithms."""
    logs = [log(ratio) for ratio in ratios]
    spread = T_975[len(logs) - 2] * stdev(logs) / sqrt(len(logs))
    return exp(fmean(logs)), exp(fmean(logs) - spread), exp(fmean(logs) + spread)


def compare(server: Server, pairs: int, folder: Path) -> bool:
    """Make the runs, first one and then the other in turn, print the figures, and return whether all is well."""
    ratios: dict[str, list[float]] = {name: [] for name in FIGURES}
    worst = 0.0
    for number in range(pairs):
        found: dict[str, dict[str, float]] = {}
        for who in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            if who == "ours":
                found[who] = of_ours(asyncio.run(measure_server(server.url, LOAD, model=server.model)).metrics())
            else:
                result = run_theirs(server, folder)
                found[who] = of_theirs(result)
                worst = max(worst, deviation(result))
        for name in FIGURES:
            ratios[name].append(found["ours"][name] / found["theirs"][name])
        print(f"pair {number + 1}: {found['ours']['output_tok_s']:.0f} and {found['theirs']['output_tok_s']:.0f} tok/s")
    for name in FIGURES:
        centre, low, high = interval(ratios[name])
        print(f"{name}: ours / theirs = {centre:.4f} [{low:.4f}, {high:.4f}]")
    print(f"same times, our definitions against theirs: at most {100 * worst:.6f}% apart")
    _, low, high = interval(ratios["output_tok_s"])
    return worst <= AGREE and low <= 1 + NEAR and high >= 1 - NEAR


def main() -> int:
    """Start a server, compare, and end it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    begin = time.monotonic()
    server = start_server(enable_prefix_caching=False)
    try:
        server.wait_ready()
        asyncio.run(measure_server(server.url, LOAD, model=server.model))  # both meet a warm server
        with tempfile.TemporaryDirectory() as folder:
            well = compare(server, options.pairs, Path(folder))
    finally:
        server.process.terminate()
        server.process.wait()
    print(
        f"{options.pairs} pairs of {LOAD.requests} requests each in {time.monotonic() - begin:.0f} s", file=sys.stderr
    )
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
