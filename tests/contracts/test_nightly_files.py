"""The ready files for schedulers: valid by the schemas and tools of those who read them, and true about crashcart."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from harness.cli.main import VERBS
from harness.nightly.config import Bisecting, Block, Bundle, Config, Keep, Notify
from harness.nightly.load import load

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "how-to" / "nightly.md"
FILES = ROOT / "docs" / "how-to" / "nightly"
TOOLS = Path(sys.executable).parent
SCHEMAS = {"github-actions.yml": "vendor.github-workflows", "buildkite.yml": "vendor.buildkite"}


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def scripts_in(node: Any) -> Iterator[str]:  # noqa: ANN401 - any YAML
    """Yield the shell scripts of a pipeline."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in {"run", "command"} and isinstance(value, str))
        for value in node.values():
            yield from scripts_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from scripts_in(value)


def parsed(name: str) -> Any:  # noqa: ANN401 - any YAML
    return yaml.safe_load((FILES / name).read_text())


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_pipelines_follow_the_schema_of_their_service(name: str, schema: str) -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", schema, FILES / name)


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_the_schemas_find_a_misspelt_key(name: str, schema: str, tmp_path: Path) -> None:
    """The check above can fail."""
    wrong = (FILES / name).read_text().replace("concurrency", "concurency").replace("timeout", "tiemout")
    (tmp_path / name).write_text(wrong)
    with pytest.raises(AssertionError):
        run(TOOLS / "check-jsonschema", "--builtin-schema", schema, tmp_path / name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_scripts_in_pipelines_pass_shellcheck(name: str, tmp_path: Path) -> None:
    scripts = list(scripts_in(parsed(name)))
    assert scripts
    for number, text in enumerate(scripts):
        path = tmp_path / f"{number}.sh"
        path.write_text("#!/bin/bash\nset -e\n" + (text.replace("$$", "$") if name == "buildkite.yml" else text) + "\n")
        run("bash", "-n", path)
        run(TOOLS / "shellcheck", "--severity=style", path)


def test_buildkite_variables_are_for_the_agent() -> None:
    """A single dollar would be replaced by the upload of the pipeline, where none of the variables is set."""
    for text in scripts_in(parsed("buildkite.yml")):
        assert re.findall(r"\$+", text)
        assert set(re.findall(r"\$+", text)) == {"$$"}


def test_github_actions_are_pinned_and_may_only_read() -> None:
    pipeline = parsed("github-actions.yml")
    used = [step["uses"] for step in pipeline["jobs"]["nightly"]["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one) for one in used)
    assert pipeline["permissions"] == {"contents": "read"}
    assert pipeline["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("name", ["nightly.sbatch", "tell.sh"])
def test_shell_scripts_pass_shellcheck(name: str) -> None:
    run("bash", "-n", FILES / name)
    run(TOOLS / "shellcheck", "--severity=style", FILES / name)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_units_are_verified_by_systemd(tmp_path: Path) -> None:
    for name in ("crashcart-nightly.service", "crashcart-nightly.timer"):
        shutil.copy(FILES / name, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "crashcart-nightly.timer"],
        capture_output=True, text=True, check=False, env=os.environ | {"SYSTEMD_LOG_TARGET": "console"},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "crashcart-nightly" in line]
    assert (done.returncode, said) == (0, []), done.stderr
    run("systemd-analyze", "calendar", "*-*-* 02:17:00")
    assert "OnCalendar=*-*-* 02:17:00" in (FILES / "crashcart-nightly.timer").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_a_misspelt_setting(tmp_path: Path) -> None:
    text = (FILES / "crashcart-nightly.service").read_text().replace("KillMode", "KilMode")
    (tmp_path / "crashcart-nightly.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "crashcart-nightly.service"],
        capture_output=True, text=True, check=False, env=os.environ | {"SYSTEMD_LOG_TARGET": "console"},
    )  # fmt: skip
    assert "KilMode" in done.stderr


NIGHTLY = """\
#!/bin/bash
# Stands in for crashcart: ends with 130 on SIGTERM, after a moment, otherwise with 1.
trap 'sleep 0.3; echo stopped; exit 130' TERM
echo "$@" started
for _ in $(seq 20); do sleep 0.1; done
exit 1
"""


@pytest.mark.parametrize(("interrupt", "code"), [(True, 130), (False, 1)])
def test_the_slurm_script_hands_sigterm_on_and_goes_back_into_the_queue(
    interrupt: bool, code: int, tmp_path: Path
) -> None:
    """With stand-ins for crashcart and scontrol, which this machine need not have."""
    for name, text in (("crashcart", NIGHTLY), ("scontrol", '#!/bin/sh\necho "scontrol $@"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    with subprocess.Popen(
        ["bash", FILES / "nightly.sbatch"], env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "nightly nightly.toml started\n"
        if interrupt:
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == ("stopped\nscontrol requeue 7\n" if interrupt else "")


def test_the_example_configuration_is_right() -> None:
    config = load(FILES / "nightly.toml")
    assert config.versions == {"verl": "newest"}
    assert [block.suite or block.scenario for block in config.run] == ["laptop", "actor_gc"]


def test_the_guide_explains_every_key_and_every_file() -> None:
    guide = GUIDE.read_text()
    keys = {
        field.encode_name
        for kind in (Config, Block, Bisecting, Notify, Keep, Bundle)
        for field in msgspec.structs.fields(kind)
    }
    assert [key for key in sorted(keys) if not any(f"{a}{key}{b}" in guide for a, b in ("``", "[]"))] == []
    assert [path.name for path in sorted(FILES.iterdir()) if f"nightly/{path.name}" not in guide] == []


@pytest.mark.parametrize("path", [GUIDE, *sorted(FILES.iterdir())], ids=lambda path: path.name)
def test_only_verbs_that_exist_are_named(path: Path) -> None:
    named = re.findall(r"(?:\bcrashcart|CRASHCART\"|CRASHCART:-crashcart}\") ([a-z]+) ", path.read_text())
    assert [verb for verb in named if verb not in VERBS and verb not in {"then", "needs"}] == []
