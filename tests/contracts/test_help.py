"""The help of every verb reads like a man page: sections, nothing garbled, nothing wider than a plain terminal."""

from __future__ import annotations

import shlex

import click
import pytest

from harness.cli.main import VERBS, cli
from harness.cli.manual import Manual

WIDTH = 80


def page(verb: str, monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    """Return the help of a verb, or of all of them, as a terminal of that width shows it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with click.Context(cli, info_name="crashcart", **cli.context_settings) as outer:
        command = cli.get_command(outer, verb) if verb else cli
        assert command is not None
        with click.Context(command, info_name=verb, parent=outer if verb else None, **cli.context_settings) as context:
            return command.get_help(context)


@pytest.mark.parametrize("columns", [WIDTH, 200])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_neither_garbled_nor_wide(verb: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape of click's stands in the text, and every line fits, however wide the terminal is."""
    text = page(verb, monkeypatch, columns)
    assert "\\b" not in text
    assert "\b" not in text
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_that_it_understands_and_exit_codes(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example stands on lines of its own and names only options that there are."""
    text = page(verb, monkeypatch, WIDTH)
    context = click.Context(cli)
    command = cli.get_command(context, verb)
    assert isinstance(command, Manual)
    assert command.examples
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    for line in command.examples:
        assert f"  {line}\n" in text
    for line in "\n".join(command.examples).replace("\\\n", "").splitlines():
        words = shlex.split(line.partition("|")[0].partition(">")[0])
        assert "crashcart" in words
        if verb in words:
            own = words[words.index(verb) + 1 :]
            own = own[: own.index("--")] if "--" in own else own
            assert {word for word in own if word.startswith("-")} <= known
    assert "Exit codes:" in text
