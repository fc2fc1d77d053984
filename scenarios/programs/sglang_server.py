"""A real SGLang server as a child of the program; it is asked over HTTP, so that no client has to fit its release.

Written after the sources of 0.5.11 and 0.5.17, whose options and titles these are; 0.5.17 was run on an H100, and on
two H200s with TP=2.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from scenarios.programs.engine_args import prepare_environment
from scenarios.programs.tiny_model import tiny_model
from scenarios.programs.vllm_server import Server

GRAPHS: Final = {"full": ("--cuda-graph-max-bs", "8"), "off": ("--disable-cuda-graph",)}
ALL_REDUCE: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    "custom": ("--tp-size", "2"),
    "nccl": ("--tp-size", "2", "--disable-custom-all-reduce"),
    "aiter": ("--tp-size", "2"),
}
"""Between ``custom`` and ``aiter`` the variable SGLANG_USE_AITER_AR decides, which the cell sets."""
AITER: Final = "AiterCustomAllreduce"
"""What the log names when AITER's all-reduce is taken (``custom_all_reduce.py``)."""
REGISTERED: Final = re.compile(r"Registering [1-9]\d* cuda graph addresses")
"""What SGLang's own all-reduce logs after a capture that holds some of it (``custom_all_reduce.py``)."""
CAPTURED: Final = re.compile(r"Capture .*graph.* end\b", re.IGNORECASE)
"""What the scheduler logs after each kind of graph (``cuda_graph_setup.py``; ``model_runner.py`` before 0.5.17)."""
SAID: Final = re.compile(r"^.*(?:CUDA error|HIP error|HSA_STATUS_ERROR|Error: |Capture .*failed).*$", re.MULTILINE)
OPTIONS: Final = (
    "--load-format", "dummy", "--dtype", "bfloat16", "--context-length", "2048", "--max-running-requests", "16",
    "--mem-fraction-static", "0.1", "--attention-backend", "triton", "--sampling-backend", "pytorch",
    "--grammar-backend", "none", "--random-seed", "0", "--skip-server-warmup", "--disable-piecewise-cuda-graph",
)  # fmt: skip
"""No kernel is compiled by nvcc for these backends; graphs are those of decoding alone."""
READY_S: Final = 240.0
"""The first start of a release compiles a handful of kernels with nvcc, one after another, and keeps them."""
ANSWER_S: Final = 120.0


def start_server(graphs: str = "off", all_reduce: str = "none") -> Server:
    """Start SGLang's HTTP server on a free port of the loopback interface, with decode graphs or without."""
    prepare_environment()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", tiny_model("dense"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--served-model-name", "tiny", *OPTIONS, *GRAPHS[graphs], *ALL_REDUCE[all_reduce]]
    return Server(process=subprocess.Popen(command), port=port, model="tiny")


def answer(server: Server, tokens: int) -> int:
    """Return the number of tokens of one answer."""
    sampling = {"max_new_tokens": tokens, "temperature": 0.0, "ignore_eos": True}
    body = json.dumps({"text": "the crash cart rolls to a machine", "sampling_params": sampling}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{server.url}/generate", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:  # noqa: S310 - our own server
        said: dict[str, Any] = json.load(reply)
    return int(said["meta_info"]["completion_tokens"])


def answers(server: Server, concurrency: int, requests: int, tokens: int) -> int:
    """Return the tokens of a load."""
    with ThreadPoolExecutor(concurrency) as pool:
        return sum(pool.map(lambda _: answer(server, tokens), range(requests)))


def output() -> str:
    """Return what the server has said so far: it shares the program's output, which lies in the working folder."""
    return "".join(path.read_text(errors="replace") for name in ("stdout", "stderr") if (path := Path(name)).exists())


def captured(text: str) -> int:
    """Return how many kinds of graphs a scheduler has captured, by its log."""
    return len(CAPTURED.findall(text))


def all_reduce_in(text: str) -> str:
    """Return which all-reduce the captured graphs hold, by the log; NCCL's is the one that says nothing."""
    if AITER in text:
        return "aiter"
    return "custom" if REGISTERED.search(text) else "nccl"


def complaint(text: str) -> str:
    """Return the first line of a log that names an error; empty if there is none."""
    found = SAID.search(text)
    return found[0].strip()[:300] if found else ""
