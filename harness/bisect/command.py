"""Any command as a scenario, for bisections of programs that have none: what counts as the failure is stated."""

from __future__ import annotations

from typing import Final

import msgspec

from harness.attempt import Attempt, Judgement
from harness.outcome import Kind, Verdict, VerdictName
from harness.spec import Description, Environment, Launch, Params, Reference, Row, Scenario

COMMAND: Final = "CRASHCART_COMMAND"
UNTESTABLE: Final = 125
"""``git bisect run``'s word for a version that cannot be tested."""


class CommandSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A command and its failure: a regular expression in its output, or, without one, exit code 1 and nothing else."""

    argv: tuple[str, ...]
    pattern: str | None = None
    cwd: str | None = None
    deadline_s: float = 600.0


def oracle(attempt: Attempt) -> Judgement:
    """Judge by the stated failure; every other way to end is another failure, 124, 134, 137 and 139 among them."""
    ended = attempt.mark("ended")
    if ended is None:
        return Judgement(verdict=Verdict(name=VerdictName.OTHER_FAILURE, signature="no end seen"))
    how, matched = str(ended.data["how"]), ended.data.get("matched")
    if matched is not None:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=str(matched), reasons=(f"in the output; {how}",))
    elif how == "exit 1" and ended.data.get("pattern") is None:
        verdict = Verdict(name=VerdictName.REPRODUCED, signature=how, reasons=(how,))
    elif how == "exit 0":
        verdict = Verdict(name=VerdictName.ABSENT, reasons=(how,))
    elif how == f"exit {UNTESTABLE}":
        verdict = Verdict(name=VerdictName.UNTESTABLE, reasons=(f"the command said so: {how}",))
    else:
        verdict = Verdict(name=VerdictName.OTHER_FAILURE, signature=how, reasons=(how,))
    return Judgement(verdict=verdict)


def command_scenario(spec: CommandSpec) -> Scenario:
    """Return a scenario of one cell that runs the command."""

    def launch(params: Params, environment: Environment) -> Launch:
        del params, environment
        return Launch(
            module="scenarios.programs.command",
            env={COMMAND: msgspec.json.encode(spec).decode()},
            expected_s=10,
            deadline_s=spec.deadline_s,
        )

    return Scenario(
        name="command",
        title=" ".join(spec.argv)[:80],
        references=(Reference(name="none", url=""),),
        axes=(),
        rows=(Row(params={}, suites=frozenset()),),
        describe=lambda _: Description(kind=Kind.NATIVE),
        expect=lambda params, environment: None,  # noqa: ARG005 - nothing is expected of an unknown command
        requires=lambda params, environment: None,  # noqa: ARG005 - as above
        launch=launch,
        oracle=oracle,
    )
