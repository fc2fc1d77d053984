"""Whether a row of a product has the same bits alone and in a batch, on this machine's GPU or CPU.

    python benchmarks/batch_bits.py

A row of sums of some length is multiplied alone and as one of 2 to 416; printed is which share of its elements differs.
On a GPU torch's ``linear`` does it (cuBLAS, or ROCm's libraries), on the CPU vLLM's own product where vLLM is. It is
why answers of a batch can differ from those of single requests: see ``scenarios/rollout.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

import torch

LENGTHS: Final = ((256, 768), (512, 256), (2048, 6144), (2048, 11264), (5632, 2048), (2048, 512))
"""Products of a sum, and sums of a row: those of the models of `scenarios.programs.tiny_model`."""
BATCHES: Final = (2, 4, 8, 16, 64, 416)
COMPARED: Final = 8
"""So many rows of each batch are compared."""


def product_of(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return how rows are multiplied with a weight."""
    if weight.is_cuda or not find_spec("vllm"):
        return lambda rows: torch.nn.functional.linear(rows, weight)
    import vllm._C  # noqa: F401 - registers the operations
    from vllm import _custom_ops as operations

    handler = operations.create_onednn_mm(weight.t(), 32)
    product: Callable[[torch.Tensor], torch.Tensor] = lambda rows: operations.onednn_mm(handler, rows, None)  # noqa: E731
    return product


def differing(product: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, batch: int) -> float:
    """Return the share of elements that a batch gives otherwise."""
    compared = min(batch, COMPARED)
    alone = torch.cat([product(rows[number : number + 1].contiguous()) for number in range(compared)])
    together = product(rows[:batch].contiguous())[:compared]
    return float((alone != together).float().mean())


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    what: Any = torch.cuda.get_device_name() if device == "cuda" else "vLLM's product" if find_spec("vllm") else "torch"
    print(f"{device}, {what}, torch {torch.__version__}\n")
    print(f"| type | products of a sum | sums | {' | '.join(f'of {batch}' for batch in BATCHES)} |")
    print(f"|---|---|---|{'---|' * len(BATCHES)}")
    for dtype in (torch.bfloat16, torch.float32):
        for length, sums in LENGTHS:
            weight = (torch.randn(sums, length, device=device) * length**-0.5).to(dtype)
            rows = torch.randn(max(BATCHES), length, device=device).to(dtype)
            shares = [f"{differing(product_of(weight), rows, batch):.2%}" for batch in BATCHES]
            print(f"| {str(dtype).removeprefix('torch.')} | {length} | {sums} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
