"""A real vLLM server whose start waits for a real nvcc, minutes long: no hang. With the compiler stopped: a hang.

    python benchmarks/kernel_compile.py [--archs "8.0 9.0a 10.0a"]

FlashInfer's sampling kernels are built with ``MAX_JOBS=1`` while the worker of a server on the CPU starts, in the phase
that the program declares; each architecture adds about a minute. The control stops a compiler that has worked for three
seconds, for twenty. No GPU is needed, but nvcc with the headers of cuRAND, something to link as ``libcudart`` and
``libcuda`` (``CPATH`` and ``LIBRARY_PATH`` say where), and FlashInfer beside vLLM's CPU build (``pip install --no-deps
flashinfer-python apache-tvm-ffi einops tabulate ninja nvidia-ml-py``).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.attempt import Attempt  # noqa: E402 - runs from a checkout
from harness.record import read_run  # noqa: E402

ASKED_S: Final = 120.0
LIMIT_S: Final = 1200
PARTS: Final = re.compile(r"(\S*/)?(cicc|ptxas|cudafe\+\+)(?![\w+])")
"""What nvcc works with."""
EXTENSION: Final = (
    "from flashinfer.jit.sampling import gen_sampling_module\n"
    "gen_sampling_module().build(verbose=False)\n"
    "class Extension:\n"
    "    pass\n"
)
"""The worker imports it when the engine starts, and it builds what vLLM's sampler would build on a GPU."""
SERVER: Final = """
import subprocess, sys, threading, time, urllib.request
from contextlib import suppress
import psutil
from harness import child
from scenarios.programs.engine_args import prepare_environment
from scenarios.programs.tiny_model import tiny_model

def compiler():
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if one.name() == "cicc" and time.time() - one.create_time() > 3:
                return one

def stop_a_compiler():
    while (one := compiler()) is None:
        time.sleep(0.1)
    with suppress(psutil.NoSuchProcess):
        one.suspend()
        child.mark("stopped", pid=one.pid)
        time.sleep(20)
        one.resume()

if sys.argv[1] == "stopped":
    threading.Thread(target=stop_a_compiler, daemon=True).start()
prepare_environment()
command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", tiny_model()]
command += ["--load-format", "dummy", "--dtype", "float32", "--enforce-eager", "--max-model-len", "512"]
command += ["--port", sys.argv[2], "--worker-extension-cls", "compiles_kernels.Extension"]
with subprocess.Popen(command) as server:
    with child.phase("engine_start"):
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"http://localhost:{sys.argv[2]}/health", timeout=1).close()
                child.mark("ready")
                break
            except OSError:
                time.sleep(1)
    server.terminate()
"""


def start(way: str, archs: str, folder: Path) -> Attempt:
    """Start the server once under ``crashcart watch`` and return what was recorded."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "compiles_kernels.py").write_text(EXTENSION)
    path = os.pathsep.join([str(ROOT), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "MAX_JOBS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    env |= {"FLASHINFER_CUDA_ARCH_LIST": archs, "FLASHINFER_WORKSPACE_BASE": str(folder / "built" / way)}
    run = folder / way
    program = [sys.executable, "-c", SERVER, way, str(port)]
    with (folder / f"{way}.log").open("wb") as log:
        command = [sys.executable, "-m", "harness", "watch", "--timeout", str(LIMIT_S), "--out", str(run)]
        with subprocess.Popen([*command, "--", *program], env=env, stdout=log, stderr=log) as supervisor:
            try:
                supervisor.wait()
            except KeyboardInterrupt:
                supervisor.terminate()  # killed, it would leave the server behind
                raise
    ((attempt,),) = read_run(run).attempts.values()
    if attempt.mark("ready") is None:
        sys.exit(f"the server did not come up ({way}): {(folder / f'{way}.log').read_text()[-2000:]}")
    return attempt


def compiled_s(attempt: Attempt) -> float:
    """Return for how many seconds a part of nvcc was there, together."""
    some = [one for one in attempt.processes if any(PARTS.match(name) for name in one.names)]
    spans = sorted((one.born_ns, one.died_ns) for one in some if one.died_ns is not None)
    total, until = 0, 0
    for begin, end in spans:
        total += max(0, end - max(begin, until))
        until = max(until, end)
    return total / 1e9


def noticed_s(attempt: Attempt) -> float | None:
    """Return how long after the compiler was stopped a suspicion named it, in seconds; ``None`` if none did."""
    stopped = attempt.mark("stopped")
    if stopped is None:
        return None
    naming = [doubt.t_ns for doubt in attempt.suspicions if any(key.pid == stopped.data["pid"] for key in doubt.keys)]
    return (min(naming) - stopped.t_ns) / 1e9 if naming else None


def main() -> None:
    """Start both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="8.0 9.0a 10.0a", help="of the build that is untouched")
    options = parser.parse_args()
    needed = {"vllm": find_spec("vllm"), "flashinfer": find_spec("flashinfer"), "nvcc": shutil.which("nvcc")}
    if missing := [name for name, found in needed.items() if found is None]:
        sys.exit(f"not installed: {', '.join(missing)}; --help says what is needed")
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        print("| the compiler | compiled for, s | suspicions | named after, s | of |\n|---|---|---|---|---|")
        found = {}
        for way, archs in (("untouched", options.archs), ("stopped", options.archs.split()[0])):
            print(f"a server starts, the compiler of its kernels {way}: some minutes", file=sys.stderr)
            found[way] = attempt = start(way, archs, Path(name))
            said = "; ".join(reason for doubt in attempt.suspicions for reason in doubt.reasons)
            after = "-" if (noticed := noticed_s(attempt)) is None else f"{noticed:.1f}"
            doubts = len(attempt.suspicions)
            print(f"| {way} | {compiled_s(attempt):.0f} | {doubts} | {after} | {said or '-'} |", flush=True)
    let_be, stopped = found["untouched"], found["stopped"]
    good = compiled_s(let_be) >= ASKED_S and not let_be.suspicions and noticed_s(stopped) is not None
    print(f"two minutes of nvcc are not called a hang, a stopped one is: {'holds' if good else 'does not hold'}")


if __name__ == "__main__":
    main()
