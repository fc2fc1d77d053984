"""What a reproducer needs: requirements as they were when the attempt failed, and a script that installs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

SCRIPT: Final = """\
#!/usr/bin/env bash
# Makes .venv with exactly what reproduce.py ran with. Every package is named, so none brings others (--no-deps).
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${{PYTHON:-python3}}
"$PYTHON" -m venv .venv
install() {{ .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$@"; }}
{torch}install -r requirements.txt
echo "run: .venv/bin/python reproduce.py"
"""
TORCH: Final = """\
# torch is {version}: its CPU build needs TORCH_INDEX=<URL or folder of PyTorch's wheels>, if your index lacks it.
install ${{TORCH_INDEX:+--find-links "$TORCH_INDEX" --extra-index-url "$TORCH_INDEX"}} 'torch=={version}'
"""


def requirements(roots: Iterable[str], overlays: Mapping[str, str], versions: Mapping[str, str]) -> dict[str, str]:
    """Return distributions and versions: those of the roots and of all that they need, as recorded.

    Args:
        roots: Modules that the reproducer imports.
        overlays: Packages of other releases than the installed ones.
        versions: What was installed when the attempt failed.
    """
    recorded = {_key(name): version for name, version in versions.items()}
    by_module = metadata.packages_distributions()
    waiting = [(dist, "") for root in roots for dist in by_module.get(root, [])]
    waiting += [(name, "") for name in _OFTEN if _key(name) in recorded and set(roots) & _OFTEN[name]]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (_key(name), extra) in seen or _key(name) not in recorded:
            continue
        seen.add((_key(name), extra))
        found[_key(name)] = recorded[_key(name)]
        waiting += _needed(name, extra)
    return dict(sorted((found | {_key(name): version for name, version in overlays.items()}).items()))


_OFTEN: Final = {
    "setuptools": {"verl", "vllm", "torch"},
    "pandas": {"verl"},
    "omegaconf": {"verl"},
    "tensordict": {"verl"},
    "transformers": {"verl"},
    "numpy": {"verl"},
    "torch": {"verl"},
    "codetiming": {"verl"},
    "pyarrow": {"verl"},
    "hydra-core": {"verl"},
}
"""Distribution → modules that import it although their own metadata is not here to say so (overlays have none)."""


def script(needed: Mapping[str, str]) -> tuple[str, str]:
    """Return the requirements file and the script."""
    lines = "".join(f"{name}=={version}\n" for name, version in needed.items() if name != "torch")
    torch = TORCH.format(version=needed["torch"]) if "torch" in needed else ""
    return lines, SCRIPT.format(torch=torch)


def _needed(name: str, extra: str) -> list[tuple[str, str]]:
    """Return what a distribution needs, with one of its extras or none, each with none and with each of its extras."""
    try:
        listed = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in listed:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found += [(requirement.name, one) for one in ("", *requirement.extras)]
    return found


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
