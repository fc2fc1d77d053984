"""Serves three loads with a real SGLang server whose decode graphs are on or off, and measures each of them."""

from __future__ import annotations

import time
from importlib.metadata import version

from harness import child
from scenarios.programs.graph_capture_vllm import LOADS
from scenarios.programs.sglang_server import (
    READY_S,
    all_reduce_in,
    answer,
    answers,
    captured,
    complaint,
    output,
    start_server,
)

STOP_S = 30.0


def run(graphs: str, all_reduce: str) -> None:
    """Start, look at the graphs, serve, and end."""
    with child.phase("server_start"):
        server = start_server(graphs, all_reduce)
        server.wait_ready(READY_S)
    said = output()
    count = captured(said)
    seen = "full" if count else "off"
    told = {} if all_reduce == "none" or not count else {"all_reduce": all_reduce_in(said)}
    mode = f"decode graphs {seen}"
    child.mark("graph_state", graphs=seen, mode=mode, captured=count, sglang=version("sglang"), **told)
    with child.phase("warm_up"):
        answer(server, 32)
    for name, concurrency, requests, tokens in LOADS:
        with child.phase(name):
            begin = time.monotonic()
            produced = answers(server, concurrency, requests, tokens)
            seconds = time.monotonic() - begin
        speed = round(produced / seconds, 1)
        child.mark("load", load=name, tokens=produced, seconds=round(seconds, 3), tok_s=speed)
    with child.phase("stop"):
        server.process.terminate()
        server.process.wait(STOP_S)


def main() -> None:
    """Run the cell; a server that fails is an observation, with the first error of its log."""
    try:
        run(child.params()["graphs"], child.params().get("all_reduce", "none"))
    except Exception as error:  # noqa: BLE001 - whatever kept the server from serving is what the cell is about
        said = complaint(output())
        child.observe_error("engine_failed", RuntimeError(f"{said}\n{error}") if said else error)
    child.finish()


if __name__ == "__main__":
    main()
