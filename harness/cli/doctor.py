"""``crashcart doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json, without
from harness.events import ProcessKey
from harness.plan import Cell, plan
from harness.probes.gpu import GpuSurvey, explain
from harness.probes.gpu_probes import gpu_probes, look_at_gpus
from harness.probes.machine import capabilities, describe, read_environment
from harness.supervise.cookie import end_survivor, find_survivors
from scenarios.registry import all_scenarios


@click.command(
    "doctor",
    cls=Manual,
    short_help="What this machine can do.",
    examples=("crashcart doctor", "crashcart doctor --json | jq .cells", "crashcart doctor --reap"),
    codes={"0": "whatever was found"},
    variables={"CRASHCART_WITHOUT": "capabilities that are to count as missing, as --without"},
    files={"runs/": "run directories whose ledgers are read for survivors, see --runs"},
)
@click.option("--reap", is_flag=True, help="End the processes that a crashcart which was killed has left behind.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Where run directories lie; their ledgers name survivors that hide their cookie.",
)
@without
@as_json
def command(reap: bool, runs: Path, without: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001 - flags
    """Say what this machine can do: kernel, sources of exit statuses, stack tools, GPUs, versions of every stack.

    Then which cells can run here and, for each other one, why not; and processes that a crashcart which was killed
    has left behind.
    """
    taken = frozenset(without)
    environment = read_environment(taken)
    machine = describe(environment)
    able = capabilities(taken)
    cells = plan(all_scenarios(), environment)
    gpus = look_at_gpus(taken)
    survivors = _survivors(sorted(runs.glob("2*")), reap=reap)
    if as_json:
        blocked = {cell.id: cell.untestable for cell in cells}
        document = {"machine": machine, "capabilities": able, "cells": blocked, "survivors": survivors}
        document["gpu_probes"] = _probes(gpus)
        click.echo(json.dumps(document))
        return 0
    for name, value in machine.items():
        click.echo(f"{name:14} {_text(value)}")
    click.echo("capabilities")
    for name, state in able.items():
        click.echo(f"  {name:14} {state}")
    click.echo("GPU probes")
    for name, state in _probes(gpus).items():
        click.echo(f"  {name:14} {state}")
    for device in gpus.devices:
        click.echo(
            f"  GPU {device.index} {device.model}: {device.memory_used_mib} of {device.memory_total_mib} MiB used"
        )
    for found in explain(gpus.devices, gpus.holders):
        click.echo(f"  {found.reason}")
    _print_cells(cells)
    for survivor in survivors:
        state = "ended" if survivor["ended"] else "running; crashcart doctor --reap ends it"
        click.echo(f"left by a crashcart that is gone: pid {survivor['pid']} {survivor['title']} ({state})")
    return 0


def _survivors(runs: list[Path], *, reap: bool) -> list[dict[str, Any]]:
    """Return what is left; with ``reap`` it is ended, and what it has started meanwhile, too."""
    found: dict[ProcessKey, dict[str, Any]] = {}
    while left := [one for one in find_survivors(runs) if one.key not in found]:
        found |= {
            one.key: {"pid": one.key.pid, "title": one.title, "ended": reap and end_survivor(one)} for one in left
        }
        if not reap:
            break
    return list(found.values())


def _probes(gpus: GpuSurvey) -> dict[str, str]:
    """Return each GPU probe with ``yes``, or why it is unavailable."""
    missing = {one.probe: one.reason for one in gpus.unavailable}
    return {probe.name: missing.get(probe.name, "yes") for probe in gpu_probes()}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _print_cells(cells: list[Cell]) -> None:
    runnable = [cell for cell in cells if cell.untestable is None]
    click.echo(f"cells          {len(runnable)} of {len(cells)} can run here")
    for cell in cells:
        if cell.untestable is not None:
            click.echo(f"  {cell.id}: {cell.untestable}")
