"""Evidence from hardware: run directories become a folder that can be committed, and one page that shows it.

What is kept is the record itself, redacted: ``run.json``, ``results.jsonl``, the events (packed), the merged stacks;
and notes, if there are any.
So ``crashcart report`` reads the folder as it is, and ``crashcart judge`` after ``gunzip``. Several runs lie in folders
of their own below that of the page. The page is made from the folder alone; a fact that the record lacks is called
``not recorded``.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import RecordError
from harness.judge import Row
from harness.record import EVENTS, MANIFEST, RESULTS, Manifest, read_manifest
from reports.formats import counted
from reports.load import load_rows
from reports.markdown import escape, table
from reports.redaction.names import Names
from reports.redaction.redactor import Redactor, vocabulary

PACKED: Final = f"{EVENTS}.gz"
MERGED: Final = "stacks/merged.txt"
OVERHEAD: Final = "overhead.txt"
"""Output of ``benchmarks/overhead.py`` on the same machine, if it was run there."""
NOTES: Final = "notes.md"
"""What a reader must know of the runs: paragraphs for the head of the page."""
SMI: Final = "environment/nvidia-smi.txt"
STACK: Final = ("torch", "vllm", "sglang", "ray")
TOOLS: Final = ("py_spy", "eu_stack", "pystack", "gdb", "cuda_gdb")
READ_OFF: Final = ("torch", "cuda", "nccl", "vllm")
"""What programs tell of themselves; it says more than the metadata of packages."""
UNKNOWN: Final = "not recorded"
_HOME: Final = re.compile(r"(?<![\w.~/-])[/]root(?![\w-])")
"""The superuser's folder, which is nobody's name to the redactor, and the machine's business all the same."""
_UUID: Final = re.compile(r"\b(?:GPU-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
_SMI_LINE: Final = re.compile(r"^(Driver Version|CUDA Version) *: (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One run of a page."""

    folder: Path
    manifest: Manifest
    rows: Sequence[Row]


def keep_all(runs: Sequence[Path], folder: Path, notes: Sequence[str] = ()) -> None:
    """Replace a folder by what is kept of one run, or of several, each in a folder of its own below it.

    Raises:
        RecordError: If a run cannot be read or lies in the folder itself, two have the same name, or the folder holds
            something else than runs.
    """
    names = [run.resolve().name for run in runs]
    for run, name in zip(runs, names, strict=True):
        load_rows(run)
        if folder.resolve() in {run.resolve(), *run.resolve().parents}:
            msg = f"{run} lies in {folder}, which is to be replaced"
            raise RecordError(msg)
        if names.count(name) > 1:
            msg = f"two runs are called {name}: their folders are named after them"
            raise RecordError(msg)
    if folder.exists() and not _records(folder):
        read_manifest(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for run, name in zip(runs, names, strict=True):
        keep(run, folder if len(runs) == 1 else folder / name)
    if notes:
        (folder / NOTES).write_text("\n\n".join(notes) + "\n", encoding="utf-8")


def _records(folder: Path) -> list[Path]:
    """Return the folders of a page's runs: the folder itself, or those below it."""
    if (folder / MANIFEST).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def keep(run: Path, folder: Path) -> None:
    """Replace a folder by what is kept of a run, redacted.

    Raises:
        RecordError: If the run cannot be read, or the folder holds something else than a run.
    """
    manifest = read_manifest(run)
    load_rows(run)
    if folder.exists():
        read_manifest(folder)
    names = [MANIFEST, RESULTS, EVENTS, *(str(path.relative_to(run)) for path in run.glob(f"cells/*/*/{MERGED}"))]
    texts = {
        name: _HOME.sub("~", (run / name).read_text(errors="replace"))
        for name in sorted(names)
        if (run / name).exists()
    }
    if (run / SMI).exists():
        texts[SMI] = "".join(f"{found[0]}\n" for found in _SMI_LINE.finditer((run / SMI).read_text(errors="replace")))
    redacted = _redacted(texts, {str(k): str(v) for k, v in manifest.environment.get("packages", {}).items()})
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in redacted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == EVENTS:
            (folder / PACKED).write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            path.write_text(text, encoding="utf-8")


def _redacted(texts: dict[str, str], packages: dict[str, str]) -> dict[str, str]:
    common = vocabulary(texts.values(), packages) | {"crashcart", "scenarios", "harness"}
    redactor = Redactor({}, Names(None, common), common)
    devices: dict[str, str] = {}
    for text in texts.values():
        redactor.learn(text)
        for found in _UUID.finditer(text):
            devices.setdefault(found[1], f"gpu-{len(devices) + 1}")
    return {name: _UUID.sub(lambda found: devices[found[1]], redactor.redact(text)) for name, text in texts.items()}


def page(folder: Path, title: str) -> str:
    """Return the page of a kept folder.

    Raises:
        RecordError: If the folder holds no run.
    """
    kept = [Kept(folder=one, manifest=read_manifest(one), rows=load_rows(one)) for one in _records(folder) or [folder]]
    rows = [row for one in kept for row in one.rows]
    parts = [
        f"# {title}\n",
        *_head(folder, kept),
        *_notes(folder),
        "## Machine\n",
        _table(("what", "read off"), _machine(kept)),
        "## Rows\n",
        table(rows),
        *_throughput(rows),
        *_overhead(folder),
        *_memory(rows),
        *_hangs(kept),
        "## What each verdict rests on\n",
        *(f"- {escape(row.cell)}: {row.verdict.value}. {escape('; '.join(row.reasons))}" for row in rows),
        "",
    ]
    return "\n".join(parts)


def _head(folder: Path, kept: Sequence[Kept]) -> Iterator[str]:
    """Yield where the page comes from: one run in words, several as a list."""
    if [one.folder for one in kept] == [folder]:
        yield f"Made by `make gpu-evidence` from the record in [{folder.name}]({folder.name}).\n"
        yield f"`crashcart report` reads that folder as it is, `crashcart judge` after `gunzip {PACKED}`.\n"
        yield f"Run {_called(kept[0].manifest)}.\n"
    else:
        yield f"Made by `make gpu-evidence` from the records in [{folder.name}]({folder.name}).\n"
        yield f"`crashcart report` reads these folders as they are, `crashcart judge` after `gunzip {PACKED}`.\n"
        for one in kept:
            name = one.folder.name
            yield f"- [{name}]({folder.name}/{name}): {_count(one.rows)}. Run {_called(one.manifest)}"
        yield ""
    yield f"{_count([row for one in kept for row in one.rows])}.\n"


def _notes(folder: Path) -> Iterator[str]:
    path = folder / NOTES
    if path.is_file():
        yield path.read_text(encoding="utf-8")


def _called(manifest: Manifest) -> str:
    return f"{manifest.run} of crashcart {manifest.crashcart}: `crashcart {' '.join(manifest.argv)}`"


def _count(rows: Sequence[Row]) -> str:
    good = sum(row.as_expected is True for row in rows)
    return f"{counted(len(rows), 'row')}, {good} as expected, {sum(row.wall_s for row in rows):.0f} s of attempts"


def _machine(kept: Sequence[Kept]) -> Iterator[tuple[str, str]]:
    """Yield the machine, as the first run describes it, and what any of them read off its stacks."""
    environment, rows = kept[0].manifest.environment, [row for one in kept for row in one.rows]
    packages = {name: version for one in kept for name, version in one.manifest.environment.get("packages", {}).items()}
    gpus: list[str] = environment.get("gpus", [])
    texts = [(one.folder / SMI).read_text() for one in kept if (one.folder / SMI).exists()]
    told: dict[str, str] = {found[1]: found[2] for text in texts for found in _SMI_LINE.finditer(text)}
    seen = {name: {str(row.effective[name]) for row in rows if name in row.effective} for name in READ_OFF}
    yield "GPUs", "; ".join(f"{gpus.count(model)} × {model}" for model in dict.fromkeys(gpus)) or UNKNOWN
    yield "driver", str(environment.get("driver") or told.get("Driver Version", UNKNOWN))
    yield "CUDA of the driver", told.get("CUDA Version", UNKNOWN)
    yield "CUDA of torch", ", ".join(sorted(seen["cuda"])) or UNKNOWN
    yield "NCCL", ", ".join(sorted(seen["nccl"])) or UNKNOWN
    for name in STACK:
        if name in packages:
            yield name, ", ".join(sorted(seen.get(name, ()))) or packages[name]
    kernel = ".".join(str(environment.get("kernel", "?")).split(".")[:2])
    yield "system", f"Linux {kernel}, {environment.get('cores', '?')} cores, Python {environment.get('python', '?')}"
    tools = (f"{name}: {state}" for name, state in kept[0].manifest.capabilities.items() if name in TOOLS)
    yield "stack tools", "; ".join(tools) or UNKNOWN


def _throughput(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what each row with a load reached, one column for each figure that any of them has."""
    loaded = [row for row in rows if row.throughput]
    figures = list(dict.fromkeys(name for row in loaded for name in row.throughput or ()))
    if loaded:
        lines = [(row.cell, *(_figure((row.throughput or {}).get(name)) for name in figures)) for row in loaded]
        yield "## Throughput\n"
        yield _table(("cell", *figures), lines)


def _figure(value: Any) -> str:  # noqa: ANN401 - decoded JSON
    return f"{value:g}" if isinstance(value, int | float) else "-"


def _overhead(folder: Path) -> Iterator[str]:
    """Yield what supervision cost, as it was measured; the ending is what people look for first."""
    path = folder / OVERHEAD
    if path.is_file():
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        yield f"## Cost of supervision\n\nOne vLLM engine on one GPU, watched and bare in alternation: {lines[-1]}.\n"
        yield "```\n" + "\n".join(lines) + "\n```\n"


def _memory(rows: Sequence[Row]) -> Iterator[str]:
    held = [(row, one) for row in rows for one in row.gpu.get("holders", ())]
    if held:
        lines = [(row.cell, f"pid {one['pid']}", str(one["name"])[:70], str(one["mib"])) for row, one in held]
        yield "## GPU memory by process\n\nThe most in samples 5 s apart: a shorter peak can lie between two.\n"
        yield _table(("cell", "who", "name", "MiB"), lines)


def _hangs(kept: Sequence[Kept]) -> Iterator[str]:
    """Yield each hang with the reasons of its verdict and its merged stacks."""
    hung = [
        (one.folder, row)
        for one in kept
        for row in one.rows
        if any(found.get("finding") == "hang" for found in row.findings)
    ]
    if hung:
        yield "## Hangs\n"
    for folder, row in hung:
        yield f"### {escape(row.cell)}\n"
        yield from (f"- {escape(reason)}" for reason in row.reasons)
        path = folder / (row.evidence or "") / MERGED
        if path.is_file():
            yield f"\n```\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"
        else:
            yield f"- merged stacks: {UNKNOWN}\n"


def _table(head: Sequence[str], lines: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    shown = [head, ["---"] * len(head), *([escape(text) for text in line] for line in lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in shown) + "\n"
