"""Whether a row has the same bits alone and in a batch, on this machine's GPU or CPU.

    python benchmarks/batch_bits.py [products]           rows of products
    python benchmarks/batch_bits.py layers [--model M]   what the layers of a real vLLM engine give for a request

``products``: a row of sums of some length is multiplied alone and as one of 2 to 416. On a GPU torch's ``linear`` does
it (cuBLAS, or ROCm's libraries), on the CPU vLLM's own product where vLLM is.

``layers``: an engine gets prompts of 385 tokens, alone and with others: all of a prompt, or its last token alone, whose
384 predecessors the prefix cache has. That token is compared with itself in its whole prompt, too. The layers are in
their order: where the first one differs, it begins, as what that one was given had the same bits.

Printed is which share of the elements differs; 0 is none at all. Where any differ, answers of a batch can differ from
those of single requests: see ``scenarios/rollout.py``.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch

LENGTHS: Final = ((256, 768), (512, 256), (2048, 6144), (2048, 11264), (5632, 2048), (2048, 512))
"""Products of a sum, and sums of a row: those of the models of `scenarios.programs.tiny_model`."""
BATCHES: Final = (2, 4, 8, 16, 64, 416)
COMPARED: Final = 8
"""So many rows of each batch are compared."""
LEAST: Final = 0.0001
"""A smaller share is told as being below it."""
LAYERS: Final = (
    "model.layers.0.input_layernorm",
    "model.layers.0.self_attn.qkv_proj",
    "model.layers.0.self_attn.attn",
    "model.layers.0.self_attn.o_proj",
    "model.layers.0.mlp.gate_up_proj",
    "model.layers.0.mlp.down_proj",
    "model.norm",
)
REQUESTS: Final = (2, 3, 4, 5, 8, 16)
PROMPT: Final = 385
"""Tokens: whole blocks of the prefix cache, of whatever size, and one more."""


def product_of(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return how rows are multiplied with a weight."""
    if weight.is_cuda or not find_spec("vllm"):
        return lambda rows: torch.nn.functional.linear(rows, weight)
    import vllm._C  # noqa: F401 - registers the operations
    from vllm import _custom_ops as operations

    handler = operations.create_onednn_mm(weight.t(), 32)
    product: Callable[[torch.Tensor], torch.Tensor] = lambda rows: operations.onednn_mm(handler, rows, None)  # noqa: E731
    return product


def share(some: torch.Tensor, others: torch.Tensor) -> str:
    """Return which share of the elements differs, in words that keep none apart from few."""
    found = float((some != others).float().mean())
    return "0" if not found else f"{found:.2%}" if found >= LEAST else f"<{LEAST:.2%}"


def differing(product: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, batch: int) -> str:
    """Return which share of the elements a batch gives otherwise."""
    compared = min(batch, COMPARED)
    alone = torch.cat([product(rows[number : number + 1].contiguous()) for number in range(compared)])
    together = product(rows[:batch].contiguous())[:compared]
    return share(alone, together)


def products() -> None:
    """Print the table of the products."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"\n| type | products of a sum | sums | {' | '.join(f'of {batch}' for batch in BATCHES)} |")
    print(f"|---|---|---|{'---|' * len(BATCHES)}")
    for dtype in (torch.bfloat16, torch.float32):
        for length, sums in LENGTHS:
            weight = (torch.randn(sums, length, device=device) * length**-0.5).to(dtype)
            rows = torch.randn(max(BATCHES), length, device=device).to(dtype)
            shares = [differing(product_of(weight), rows, batch) for batch in BATCHES]
            print(f"| {str(dtype).removeprefix('torch.')} | {length} | {sums} | {' | '.join(shares)} |", flush=True)


class Engine:
    """An engine in this process, whose layers say what they give."""

    def __init__(self, model: str) -> None:
        from scenarios.programs.engine_args import engine_settings, prepare_environment
        from scenarios.programs.tiny_model import tiny_model

        one_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        prepare_environment(VLLM_LOGGING_LEVEL="ERROR", OMP_NUM_THREADS="1", **one_process)
        from vllm import LLM, SamplingParams

        memory = {"enable_prefix_caching": True, "max_num_batched_tokens": PROMPT * max(REQUESTS) * 2}
        settings = {"model": tiny_model(model), "load_format": "auto", "dtype": "bfloat16", **memory}
        self._llm = LLM(**engine_settings(**settings, gpu_memory_utilization=0.1))
        self._given: dict[str, list[torch.Tensor]] = {name: [] for name in LAYERS}
        self._one = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True)
        self._llm.apply_model(self._listen)

    def _listen(self, model: torch.nn.Module) -> None:
        for name in LAYERS:
            model.get_submodule(name).register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(_module: object, _args: object, given: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            first = given[0] if isinstance(given, tuple) else given
            self._given[name].append(first.detach().float().cpu())

        return keep

    def run(self, prompts: Sequence[Sequence[int]], *, forget: bool) -> dict[str, torch.Tensor]:
        """Ask and return what each layer gave, a row for each token computed, in the order of the prompts.

        Raises:
            RuntimeError: If the cache was not emptied, or the engine did not compute all of them in one step.
        """
        if forget and not self._llm.reset_prefix_cache():
            msg = "the prefix cache was not emptied"
            raise RuntimeError(msg)
        self._given = {name: [] for name in LAYERS}
        self._llm.generate([{"prompt_token_ids": list(prompt)} for prompt in prompts], self._one, use_tqdm=False)
        steps = {name: len(parts) for name, parts in self._given.items()}
        if set(steps.values()) != {1}:
            msg = f"{len(prompts)} prompts were not computed in one step: {steps}"
            raise RuntimeError(msg)
        return {name: parts[0] for name, parts in self._given.items()}


def layers(model: str) -> None:
    """Print a table for whole prompts and one for their last tokens."""
    engine, chance = Engine(model), random.Random(0)
    prompts = [[chance.randrange(5, 500) for _ in range(PROMPT)] for _ in range(max(REQUESTS))]
    whole = [engine.run([prompt], forget=True) for prompt in prompts]
    together = [engine.run(prompts[:requests], forget=True) for requests in REQUESTS]
    columns = {
        f"of {requests}": {name: share(rows(whole[:requests], name), given[name]) for name in LAYERS}
        for requests, given in zip(REQUESTS, together, strict=True)
    }
    print_table(f"whole prompts, {model}", columns)
    for prompt in prompts:
        engine.run([prompt], forget=False)  # the cache forgot what was alone when it was asked for what was together
    alone = [engine.run([prompt], forget=False) for prompt in prompts]
    lasts = [{name: given[name][-1:] for name in LAYERS} for given in whole]
    columns = {"in its prompt": {name: share(rows(alone, name), rows(lasts, name)) for name in LAYERS}}
    for requests in REQUESTS:
        given = engine.run(prompts[:requests], forget=False)
        columns[f"of {requests}"] = {name: share(rows(alone[:requests], name), given[name]) for name in LAYERS}
    print_table(f"one token of each request, {model}", columns)


def rows(given: Sequence[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    """Return what a layer gave for several prompts, one below the other."""
    return torch.cat([one[name] for one in given])


def print_table(title: str, columns: dict[str, dict[str, str]]) -> None:
    """Print the shares, a row for each layer."""
    print(f"\n| {title} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in LAYERS:
        print(
            f"| {name.removeprefix('model.')} | {' | '.join(found[name] for found in columns.values())} |", flush=True
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["products", "layers"], default="products")
    parser.add_argument("--model", choices=["random", "wide"], default="wide", help="hidden size of 256, or of 2048")
    options = parser.parse_args()
    if options.what == "layers" and not find_spec("vllm"):
        sys.exit("vLLM is not installed here: make stack")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    invariant = ", VLLM_BATCH_INVARIANT=1" if os.environ.get("VLLM_BATCH_INVARIANT") == "1" else ""
    print(f"{gpu or ('CPU with vLLM' if find_spec('vllm') else 'CPU')}, torch {torch.__version__}{invariant}")
    if options.what == "products":
        products()
    else:
        layers(options.model)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
