"""The same thing has the same name, in every text and in every bundle; what is no person, machine or place has none."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from reports.redaction.names import Names
from reports.redaction.redactor import Redactor, vocabulary


def redacted(*texts: str, names: Names | None = None) -> list[str]:
    redactor = Redactor({}, names or Names(None), vocabulary(texts, {"ray": "2.60.0", "vllm": "0.32.0"}))
    for text in texts:
        redactor.learn(text)
    return [redactor.redact(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("/home/alice/train/run.py", "alice"),
        ("file:///Users/bobby/x/y.log", "bobby"),
        ("connecting to 10.12.0.7:6379", "10.12.0.7"),
        ("gcs-address=203.0.113.9:33855", "203.0.113.9"),
        ("tcp://[2001:db8:4:1::17]:29500", "2001:db8:4:1::17"),
        ("inet6 fe80::5054:ff:fe12:3456 scope link", "fe80::5054:ff:fe12:3456"),
        ("ether 52:54:00:12:34:56 txqueuelen", "52:54:00:12:34:56"),
        ("http://gpu-node17.dc2.acme.internal:8000/v1", "acme"),
        ("hostname: train-07.acme.internal", "train-07"),
        ("hostname: node12.cluster.corp(10.1.2.3)", "node12"),
        ("hostname = node12.cluster.corp(10.1.2.3)", "node12"),
        ("node=gpu17[0]", "gpu17"),
        ("server: db01.corp[4711]", "db01"),
        ("WARNING host = db01.corp[4711] is slow", "db01"),
        ("mail carol.smith@acme.io about it", "carol"),
        ("/mnt/lake/secret-project/ckpt/model.safetensors", "secret-project"),
        ("worker pid 7 /opt/secret/.venv/bin…ograms.rollout", "secret"),
        ("/data1/customers/acme/prompts.jsonl", "acme"),
        ("uid=1000(dorothy) gid=1000(dorothy)", "dorothy"),
        ("ip-10-2-3-4.ec2.internal joined", "10-2-3-4"),
    ],
)
def test_people_machines_and_places_get_pseudonyms(text: str, gone: str) -> None:
    (outcome,) = redacted(text)
    assert gone not in outcome


def test_the_same_thing_has_the_same_name_in_every_text() -> None:
    first, second = redacted("host=gpu-node17.acme.internal user=dorothy\n", "gpu-node17: dorothy logged in\n")
    host, user = (word.partition("=")[2] for word in first.split())
    assert second == f"{host}: {user} logged in\n"
    assert host.startswith("host-")


def test_an_environment_has_its_name_where_it_is_cut_short() -> None:
    """As merged stacks show their processes."""
    whole, cut = redacted("/opt/secret/.venv/bin/python3 -m x", "/opt/secret/.venv/bin…programs.x")
    assert (whole, cut) == ("/env-1/bin/python3 -m x", "/env-1/bin…programs.x")


def test_the_map_is_private_and_serves_the_next_bundle(tmp_path: Path) -> None:
    file = tmp_path / "state" / "pseudonyms.json"
    names = Names(file)
    (first,) = redacted("ssh 10.0.0.5 and 10.0.0.9", names=names)
    names.save()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["address"] == {"10.0.0.5": "address-1", "10.0.0.9": "address-2"}
    (again,) = redacted("only 10.0.0.9 here", names=Names(file))
    assert first == "ssh address-1 and address-2"
    assert again == "only address-2 here"


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8000 and [::1]:80 and 0.0.0.0",
        "nvidia-cudnn-cu12==9.10.2.21",
        "nvidia-cufft-cu12            11.3.3.83",
        "cuDNN version 9.10.2.21",
        "c10::detail::LogAPIUsage and std::__1::vector and a::b",
        "12:34:56 and 00000000:1B:00.0",
        "/usr/lib/x86_64-linux-gnu/libc.so.6 and /dev/shm/psm_1a2b and /proc/self/maps",
        "ray::Worker.run() (raylet pid=12) vllm.engine",
        "https://github.com/vllm-project/vllm/issues/55510",
        "torch.ops.aten@main and user=root",
        "server = self.choose(turn.conversation)",
        "import x\n    server = pool2.choose(turn)",
        "start(host=self.host2)",
        "app.state.server = self._http  # the handler",
        "host = hosts_by_rank2[0] if node == config.first() else None",
    ],
)
def test_what_names_nobody_stays(text: str) -> None:
    assert redacted(text) == [text]


def test_a_user_with_a_common_name_costs_no_frame() -> None:
    """Ray's own images have a user called ray, and vLLM's a host of that name."""
    text = "/home/ray/anaconda3/lib/python3.11/site-packages/ray/actor.py ray::Worker vllm (ray==2.60.0)"
    (outcome,) = redacted(text)
    assert outcome.endswith("/lib/python3.11/site-packages/ray/actor.py ray::Worker vllm (ray==2.60.0)")
    assert "/home/ray" not in outcome
