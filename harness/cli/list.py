"""``crashcart list``."""

from __future__ import annotations

import json

import click

from harness.cli.manual import Manual
from harness.cli.options import as_json
from harness.plan import plan, select
from harness.probes.machine import read_environment
from harness.spec import Scenario
from scenarios.registry import all_scenarios


@click.command(
    "list",
    cls=Manual,
    short_help="List scenarios.",
    examples=("crashcart list", "crashcart list actor_gc"),
)
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@as_json
def command(scenarios: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001 - a flag
    """List scenarios with their axes, cells and upstream references; one SCENARIO in full."""
    chosen = select(all_scenarios(), scenarios)
    for scenario in chosen:
        if as_json:
            click.echo(json.dumps(_plain(scenario)))
        elif scenarios:
            _print_full(scenario)
        else:
            click.echo(f"{scenario.name:18} {len(scenario.rows):3} cells  {scenario.title}")
    if not scenarios and not as_json:
        click.echo("\ncrashcart list SCENARIO shows axes and cells; crashcart run SCENARIO runs them")
    return 0


def _print_full(scenario: Scenario) -> None:
    click.echo(f"{scenario.name}: {scenario.title}")
    for reference in scenario.references:
        click.echo(f"  {reference.name}: {reference.url}")
    click.echo("axes (the first value is the default):")
    for axis in scenario.axes:
        more = " …" if axis.package else ""
        click.echo(f"  {axis.name:16} {', '.join(axis.values)}{more}\n{'':19}{axis.doc}")
    click.echo("cells:")
    for cell in plan([scenario], read_environment()):
        state = cell.untestable and f"untestable here: {cell.untestable}"
        click.echo(f"  {cell.id}\n      {cell.kind.value}, expected {cell.expected or '-'}: {cell.expected_reason}")
        if cell.control_of:
            click.echo(f"      control of {cell.control_of}")
        if state:
            click.echo(f"      {state}")


def _plain(scenario: Scenario) -> dict[str, object]:
    return {
        "scenario": scenario.name,
        "title": scenario.title,
        "references": [{"name": one.name, "url": one.url} for one in scenario.references],
        "axes": [
            {"name": axis.name, "values": list(axis.values), "package": axis.package, "doc": axis.doc}
            for axis in scenario.axes
        ],
        "cells": [scenario.cell_id(row.params) for row in scenario.rows],
        "suites": {scenario.cell_id(row.params): sorted(row.suites) for row in scenario.rows},
    }
