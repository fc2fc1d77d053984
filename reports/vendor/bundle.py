"""One archive and one Markdown text for a bug tracker, redacted, with a manifest of what is missing and why."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile

import msgspec

from harness import __version__
from harness.errors import CrashcartError, ExitCode, UsageError
from harness.judge import WATCH
from harness.probes.collectors import FOLDER
from harness.probes.machine import read_environment
from reports.evidence import ANSI
from reports.redaction.names import Names, this_machine
from reports.redaction.redactor import Redactor, vocabulary
from reports.redaction.scan import leaks
from reports.redaction.values import secret_names
from reports.vendor.facts import Facts, gather
from reports.vendor.install import requirements, script
from reports.vendor.issue import to_issue
from reports.vendor.reproducer import STEM, Variant, control_for, variant, write_reproducer
from reports.vendor.source import NotStandaloneError
from reports.vendor.vendors import Vendor

FILE_BYTES: Final = 192 << 10
"""Of each file, half from its beginning and half from its end."""
ALL_BYTES: Final = 3 << 20
LEFT_OUT: Final = re.compile(r"(?:^|/)(?:old|nsight|rocprof_sys|export_events|events)/|\.sock$|dashboard")
"""Of Ray's logs: what is empty, or says nothing of a failure."""


class LeakError(CrashcartError):
    """The finished archive still held a secret, and was deleted."""

    exit_code = ExitCode.UNEXPECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be bundled, and how."""

    run: Path
    vendor: Vendor
    cell: str | None = None
    out: Path | None = None
    redact: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    """The environment whose secret values are looked for."""
    accept_unknown: bool = False
    """Whether secrets of the run's environment that are not in `variables` are accepted as not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What was written."""

    archive: Path
    issue: Path
    cell: str
    missing: tuple[Mapping[str, str], ...]
    replaced: Mapping[str, int]
    map_file: Path | None


def state_folder() -> Path:
    """Return where private things of this user are kept: ``crashcart`` below ``XDG_STATE_HOME``."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "crashcart"


def bundle(request: Request) -> Bundle:
    """Write the bundle of one failing cell.

    Raises:
        UsageError: If there is nothing to report, or a secret of the run cannot be looked for.
        LeakError: If the archive would still hold a secret.
    """
    facts = gather(request.run, request.vendor, request.cell)
    if request.redact and not request.accept_unknown:
        _check_known(facts, request.variables)
    texts = _reproducer(facts) | _evidence(facts)
    redactor = _redactor(request, facts, texts) if request.redact else None
    shown = {_name(name, redactor): _redacted(text, redactor) for name, text in texts.items()}
    _check_reproducer(facts, texts, shown)
    issue = to_issue(facts, lambda text: _redacted(text, redactor))
    shown = {"issue.md": issue, **shown}
    shown["manifest.json"] = _redacted(_manifest(request, facts, shown, redactor), redactor)
    stem = request.out or Path(f"crashcart-{request.vendor.name}-{facts.manifest.run}.zip")
    if stem.suffix != ".zip":
        stem = stem.with_name(stem.name + ".zip")
    _write(stem, shown, redactor)
    beside = stem.with_suffix(".md")
    beside.write_text(issue, encoding="utf-8")
    if redactor is not None:
        redactor.names.save()
    return Bundle(
        archive=stem,
        issue=beside,
        cell=facts.row.cell,
        missing=tuple(facts.missing),
        replaced=dict(redactor.counts) if redactor else {},
        map_file=redactor.names.file if redactor else None,
    )


def _check_known(facts: Facts, variables: Mapping[str, str]) -> None:
    """Refuse if the run had a secret in its environment whose value is not known here: it could not be found."""
    dummies = {name: value or "x1y2z3x1y2z3" for name, value in facts.variables.items()}
    unknown = [name for name in secret_names(dummies) if name not in variables]
    if unknown:
        msg = (
            f"{', '.join(unknown[:5])} was set when the run was made and is not now, so its value cannot be looked for"
        )
        hint = "call this where it is set, give it by --env-file FILE, or accept that with --accept-unknown"
        raise UsageError(msg, hint=hint)


def _redactor(request: Request, facts: Facts, texts: Mapping[str, str]) -> Redactor:
    packages = facts.packages or {str(k): str(v) for k, v in facts.manifest.environment.get("packages", {}).items()}
    common = vocabulary(texts.values(), packages) | {"crashcart", "scenarios", "harness", facts.row.scenario}
    names = Names(state_folder() / "pseudonyms.json", common)
    this_machine(names, request.run)
    redactor = Redactor(request.variables, names, common)
    for name, text in texts.items():
        if not _is_ours(name):
            redactor.learn(text)
    return redactor


def _redacted(text: str, redactor: Redactor | None) -> str:
    return redactor.redact(text) if redactor is not None else text


def _name(name: str, redactor: Redactor | None) -> str:
    return re.sub(r"[^\w./@+=-]", "_", _redacted(name, redactor)).lstrip("/")


def _is_ours(name: str) -> bool:
    return name in {f"{STEM}.py", "install.sh", "requirements.txt"}


def _reproducer(facts: Facts) -> dict[str, str]:
    """Return the reproducer and what installs its needs; empty, with the reason, if there can be none."""
    name = f"{STEM}.py"
    scenario = facts.scenario
    if scenario is None:
        watched = facts.row.scenario == WATCH
        why = "the watched command is its own reproducer" if watched else f"{facts.row.scenario!r} is not known here"
        facts.miss(name, why)
        return {}
    environment = read_environment()
    failing = variant(scenario, facts.row, environment)
    control = control_for(facts.row, facts.rows, scenario, environment)
    facts.control = control
    if control is None:
        facts.miss("a control in the reproducer", "no passing control of this cell was recorded in the run")
    try:
        text = write_reproducer(scenario, failing, _control(facts, failing), "bash install.sh")
    except NotStandaloneError as error:
        facts.miss(name, str(error))
        return {}
    facts.reproducer = text
    overlays = {package: version for package, version in failing.launch.overlays.items() if version != "installed"}
    roots = set(re.findall(r"^[ \t]*(?:import|from) (\w+)", text, re.MULTILINE)) | set(overlays)
    listed, install = script(requirements(roots, overlays, facts.packages))
    return {name: text, "requirements.txt": listed, "install.sh": install}


def _control(facts: Facts, failing: Variant) -> Variant | None:
    """Return the control as the reproducer runs it: only one that needs no other packages can be in the same file."""
    if facts.control is None or facts.scenario is None:
        return None
    control = variant(facts.scenario, facts.control, read_environment())
    if dict(control.launch.overlays) != dict(failing.launch.overlays):
        facts.miss("a control in the reproducer", f"{facts.control.cell} needs other packages than the failing cell")
        facts.control = None
        return None
    return control


def _check_reproducer(facts: Facts, texts: Mapping[str, str], shown: Mapping[str, str]) -> None:
    for name in texts:
        if _is_ours(name) and shown.get(name) != texts[name]:
            facts.miss(f"{name} as it was written", "redaction changed it; look at it before you send it")


def _evidence(facts: Facts) -> dict[str, str]:
    """Return the texts of the record, the attempt's files and the environment, as far as they fit."""
    found = {
        "evidence/run.json": msgspec.json.format(msgspec.json.encode(facts.manifest)).decode(),
        "evidence/results.jsonl": "".join(msgspec.json.encode(row).decode() + "\n" for row in facts.rows),
        "evidence/events.jsonl": facts.events.decode(errors="replace"),
    }
    folder = facts.directory / facts.row.evidence if facts.row.evidence else None
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder is not None else []
    files += sorted((facts.directory / FOLDER).glob("*"))
    files.sort(key=lambda path: ("ray_logs" in path.parts, path.suffix not in {".err", ".json", ""}))
    used = sum(map(len, found.values()))
    for path in files:
        name = str(path.relative_to(facts.directory))
        if folder is not None and path.is_relative_to(folder):
            name = f"evidence/{path.relative_to(folder)}"
        if LEFT_OUT.search(name) or not path.stat().st_size:
            continue
        if used > ALL_BYTES:
            facts.miss(name, f"the archive holds {ALL_BYTES >> 20} MiB of text at most")
            continue
        text = _read(path)
        if text is None:
            facts.miss(name, "it is no text, and cannot be redacted")
            continue
        if path.stat().st_size > FILE_BYTES:
            facts.miss(f"the middle of {name}", f"{path.stat().st_size} bytes; {FILE_BYTES >> 10} KiB are kept")
        found[name] = text
        used += len(text)
    return found


def _read(path: Path) -> str | None:
    """Return a text file, or its beginning and its end; ``None`` if it is no text."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES + 1)
        if len(data) > FILE_BYTES:
            file.seek(-FILE_BYTES // 2, os.SEEK_END)
            data = data[: FILE_BYTES // 2].rpartition(b"\n")[0] + b"\n[...]\n" + file.read().partition(b"\n")[2]
    if b"\0" in data or data[:2] == b"\x1f\x8b":
        return None
    return ANSI.sub("", data.decode("utf-8", errors="replace"))


def _manifest(request: Request, facts: Facts, shown: Mapping[str, str], redactor: Redactor | None) -> str:
    return json.dumps(
        {
            "schema": 1,
            "crashcart": __version__,
            "for": request.vendor.name,
            "run": facts.manifest.run,
            "cell": facts.row.cell,
            "verdict": facts.row.verdict.value,
            "signature": facts.row.signature,
            "environment_collected": facts.collected.moment,
            "collectors": msgspec.to_builtins(facts.collected.collectors),
            "files": {name: len(text.encode()) for name, text in shown.items()},
            "missing": facts.missing,
            "redaction": {
                "on": redactor is not None,
                "replaced": dict(sorted(redactor.counts.items())) if redactor else {},
                "replaced_beside_their_names_only": redactor.unfindable if redactor else [],
            },
        },
        indent=1,
    )


def _write(target: Path, shown: Mapping[str, str], redactor: Redactor | None) -> None:
    """Write the archive under another name, look through it, and only then give it its own."""
    folder = target.stem
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(descriptor)
    except OSError as error:
        msg = f"cannot write {target}: {error.strerror}"
        raise UsageError(msg, hint="name another place with --out") from error
    temporary = Path(name)
    try:
        with ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
            for inner, text in shown.items():
                archive.writestr(f"{folder}/{inner}", text)
        with ZipFile(temporary) as archive:
            found = list(leaks(archive, redactor.secrets)) if redactor is not None else []
        if found:
            msg = f"the bundle would still hold {len(found)} secrets, and was not written: {'; '.join(found[:5])}"
            raise LeakError(msg, hint="please report this as a bug of crashcart, without the bundle")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
