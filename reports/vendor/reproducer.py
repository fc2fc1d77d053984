"""One Python file that shows the failure of a cell, and that its control passes, without crashcart.

It holds the scenario's program, what the program needs of this project, and the scenario's own oracle, each copied as
it is; the supervisor is replaced by a small watcher (`reports.vendor.standalone`).
"""

from __future__ import annotations

import pprint
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.judge import Row
from harness.spec import Environment, Fault, Launch, Scenario, SendSignal
from reports.vendor.inline import Inlined, Inliner
from reports.vendor.source import NotStandaloneError

STEM: Final = "reproduce"
STANDALONE: Final = "reports.vendor.standalone"
UNSEEN: Final = ("suspicions", "leftovers", "standing", "stuck_in", "stacks", "gpu_samples", "notes")
"""What of an attempt the small watcher does not see: hangs, residues, stacks, samples of the GPU."""
LASTING: Final = "SIGSTOP"
"""The signal that can be taken back."""
STAND_INS: Final = dict.fromkeys(("harness.attempt", "harness.outcome", "harness.judge", "harness.events"), STANDALONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A cell as the reproducer runs it."""

    row: Row
    launch: Launch


def variant(scenario: Scenario, row: Row, environment: Environment) -> Variant:
    """Return how a row is run."""
    return Variant(row=row, launch=scenario.launch(row.params, environment))


def control_for(row: Row, rows: list[Row], scenario: Scenario, environment: Environment) -> Row | None:
    """Return the passing control that is nearest to a failing row: same packages, fewest other parameters."""
    mine = scenario.launch(row.params, environment).overlays
    controls = [one for one in rows if one.control_of == row.cell and one.verdict.value == "absent"]
    return min(
        controls,
        key=lambda one: (
            scenario.launch(one.params, environment).overlays != mine,
            sum(one.params[name] != value for name, value in row.params.items()),
        ),
        default=None,
    )


def write_reproducer(scenario: Scenario, failing: Variant, control: Variant | None, install: str) -> str:
    """Return the file.

    Raises:
        NotStandaloneError: If the scenario needs what one file cannot do, such as a fault other than a signal.
    """
    oracle = scenario.oracle
    if not oracle.__name__.isidentifier():
        msg = "the oracle of the scenario has no name"
        raise NotStandaloneError(msg)
    ours = frozenset({"harness", "scenarios", "reports", oracle.__module__.partition(".")[0]})
    judge = Inliner(ours, STAND_INS, STEM)
    for name in ("reproduce", "Strike"):
        judge.add(STANDALONE, name)
    judge.add(oracle.__module__, oracle.__name__)
    above = judge.result()
    _check_seen(above)
    program = Inliner(ours, {}, STEM, main=failing.launch.module, avoid=frozenset(above.names.values()))
    program.add(failing.launch.module, "main")
    below = program.result()
    runs = {"failing": failing} | ({"control": control} if control else {})
    return _assemble(scenario, runs, above, below, install)


def _check_seen(above: Inlined) -> None:
    """Refuse an oracle that reads what the small watcher does not see: it would judge by nothing."""
    code = "\n".join(text for module, text in above.code.items() if module != STANDALONE)
    unseen = [name for name in sorted(UNSEEN) if re.search(rf"\.{name}\b", code)]
    if unseen:
        msg = f"its oracle reads {', '.join(unseen)}, which only `crashcart run` records"
        raise NotStandaloneError(msg)


def _assemble(scenario: Scenario, runs: Mapping[str, Variant], above: Inlined, below: Inlined, install: str) -> str:
    oracle = above.names[scenario.oracle.__module__, scenario.oracle.__name__]
    main = below.names[runs["failing"].launch.module, "main"]
    standard = sorted({*above.standard, *below.standard, "import os", "import sys"}, key=_import_order)
    judging = "\n\n\n".join(code for code in above.code.values() if code)
    program = "\n\n\n".join(code for code in below.code.values() if code)
    head = [
        _docstring(scenario, runs, install),
        "from __future__ import annotations\n",
        "\n".join([*standard, *above.third_party]),
        "",
        f"RUNS = {_runs(runs)}",
        f"{_section('How it is watched and judged')}\n\n{judging}",
        _gate(oracle, below.started),
        f"{_section('The program')}\n",
        "\n".join(sorted(below.third_party, key=_import_order)),
        f"\n{program}",
        f'if __name__ == "__main__":\n    {main}()\n',
    ]
    return "\n\n".join(part.rstrip("\n") for part in head if part) + "\n"


def _section(title: str) -> str:
    return f"\n# {title} ".ljust(100, "-")


def _import_order(statement: str) -> tuple[bool, str]:
    return statement.startswith("from"), statement


def _docstring(scenario: Scenario, runs: Mapping[str, Variant], install: str) -> str:
    row = runs["failing"].row
    seen = f"{row.verdict.value}" + (f" ({row.signature})" if row.signature else "")
    lines = [
        f"{scenario.title}.",
        "",
        f"    python {STEM}.py            shows the failure: exit code 1",
    ]
    if "control" in runs:
        lines += [f"    python {STEM}.py control    the same where nothing fails: exit code 0 ({_differing(runs)})"]
    lines += [
        "",
        "Exit code 2: neither could be told. Linux; Python 3.11 or newer. Needs nothing but:",
        "",
        *(f"    {line}" for line in install.splitlines()),
        "",
        f"Where this file was made: {seen}, in {row.reproduced} of {row.attempts} attempts (kind: {row.kind.value}).",
        *([_injected()] if row.kind.value == "injected" else []),
        "Known upstream as: " + ", ".join(f"{one.name} {one.url}" for one in scenario.references),
        "",
        "The program itself stands at the end. Above it: what starts it in a process of its own, watches all of its",
        f"descendants through /proc and pidfds, and judges. Made by crashcart from its scenario {scenario.name!r}.",
    ]
    body = "\n".join(textwrap.fill(line, 116) if len(line) > 116 and line[:1] != " " else line for line in lines)  # noqa: PLR2004
    return '"""' + body.replace("\\", "\\\\").replace('"""', "'''") + '\n"""\n'


def _injected() -> str:
    return (
        "The signal is sent by this file, as a stand-in for a defect that the machine did not have: it proves that the"
        " chain is as described, not that anything crashes by itself."
    )


def _differing(runs: Mapping[str, Variant]) -> str:
    failing, control = runs["failing"].row.params, runs["control"].row.params
    return ", ".join(f"{name}={value}" for name, value in control.items() if failing.get(name) != value) or "same"


def _runs(runs: Mapping[str, Variant]) -> str:
    table = {
        name: {
            "params": dict(one.row.params),
            "env": dict(one.launch.env),
            "strikes": [_strike(fault) for fault in one.launch.faults],
            "deadline_s": one.launch.deadline_s,
            "expected": f"{one.row.verdict.value}" + (f": {one.row.signature}" if one.row.signature else ""),
        }
        for name, one in runs.items()
    }
    return pprint.pformat(table, width=110, sort_dicts=False)


def _strike(fault: Fault) -> dict[str, str | float | None]:
    lasts = fault.until is not None or fault.lasts_s is not None
    if not isinstance(fault.action, SendSignal) or (lasts and fault.action.signal != LASTING):
        msg = f"the fault {fault.name} is more than a signal; `crashcart run` can do it, one file cannot"
        raise NotStandaloneError(msg)
    return {
        "name": fault.name,
        "signal": fault.action.signal,
        "target": fault.action.target,
        "at": fault.at,
        "until": fault.until,
        "lasts_s": fault.lasts_s,
    }


def _gate(oracle: str, modules: Mapping[str, str]) -> str:
    return f"""

if __name__ == "__main__" and "REPRODUCER_PROGRAM" not in os.environ:
    which = sys.argv[1] if len(sys.argv) > 1 else "failing"
    if which not in RUNS:
        sys.exit(f"usage: python {{sys.argv[0]}} [{{' | '.join(RUNS)}}]")
    run = RUNS[which] | {{"strikes": [Strike(**one) for one in RUNS[which]["strikes"]]}}
    print(f"{{which}}: {{run['params']}}", flush=True)
    sys.exit(reproduce(**run, oracle={oracle}, modules={dict(modules)!r}))
"""
