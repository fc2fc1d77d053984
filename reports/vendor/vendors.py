"""How each project wants its bugs reported: the headings of its own template, and what belongs below each.

Read off the projects' templates in November 2026. A section is a name of `reports.vendor.issue.SECTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A project's template."""

    name: str
    project: str
    where: str
    title: str
    headings: tuple[tuple[str, tuple[str, ...]], ...]
    collectors: tuple[str, ...]
    """Collectors whose output the template asks for, the first one most of all."""


_EVIDENCE: Final = ("rate", "variants", "indifferent", "cause", "configuration", "stacks", "logs")

VENDORS: Final[dict[str, Vendor]] = {
    vendor.name: vendor
    for vendor in (
        Vendor(
            name="vllm",
            project="vLLM",
            where="https://github.com/vllm-project/vllm/issues/new?template=400-bug-report.yml",
            title="[Bug]: {title}",
            headings=(
                ("Your current environment", ("environment",)),
                ("🐛 Describe the bug", ("summary", "reproduce", *_EVIDENCE, "evidence")),
                ("Before submitting a new issue...", ("searched",)),
            ),
            collectors=("vllm", "torch"),
        ),
        Vendor(
            name="sglang",
            project="SGLang",
            where="https://github.com/sgl-project/sglang/issues/new?template=1-bug-report.yml",
            title="[Bug] {title}",
            headings=(
                ("Checklist", ("searched",)),
                ("Describe the bug", ("summary", *_EVIDENCE, "evidence")),
                ("Reproduction", ("reproduce",)),
                ("Environment", ("environment",)),
            ),
            collectors=("sglang", "torch"),
        ),
        Vendor(
            name="ray",
            project="Ray",
            where="https://github.com/ray-project/ray/issues/new?template=bug-report.yml",
            title="[Core] {title}",
            headings=(
                ("What happened + What you expected to happen", ("summary", "expected", *_EVIDENCE, "evidence")),
                ("Versions / Dependencies", ("environment",)),
                ("Reproduction script", ("reproduce",)),
                ("Issue Severity", ("severity",)),
            ),
            collectors=("ray", "torch"),
        ),
        Vendor(
            name="verl",
            project="verl",
            where="https://github.com/volcengine/verl/issues/new/choose",
            title="{title}",
            headings=(
                ("System Info", ("environment",)),
                ("Reproduction", ("summary", "reproduce", *_EVIDENCE, "evidence")),
                ("Expected behavior", ("expected",)),
            ),
            collectors=("torch", "vllm", "ray"),
        ),
        Vendor(
            name="pytorch",
            project="PyTorch",
            where="https://github.com/pytorch/pytorch/issues/new?template=bug-report.yml",
            title="{title}",
            headings=(
                ("🐛 Describe the bug", ("summary", "reproduce", "expected", *_EVIDENCE, "evidence")),
                ("Versions", ("environment",)),
            ),
            collectors=("torch",),
        ),
        Vendor(
            name="nvidia",
            project="NVIDIA (NCCL's template)",
            where="https://github.com/NVIDIA/nccl/issues/new?template=ISSUE.yaml",
            title="[Issue]: {title}",
            headings=(
                ("How is this issue impacting you?", ("impact",)),
                ("Share Your Debug Logs", ("logs", "evidence")),
                ("Steps to Reproduce the Issue", ("reproduce", "rate", "variants", "indifferent")),
                ("NCCL Version", ("communication",)),
                ("Your platform details", ("environment", "configuration")),
                ("Error Message & Behavior", ("summary", "expected", "cause", "stacks")),
            ),
            collectors=("nvidia-smi", "nvidia-topology", "nvidia-bug-report", "torch", "dmesg"),
        ),
        Vendor(
            name="amd",
            project="AMD (ROCm's template)",
            where="https://github.com/ROCm/ROCm/issues/new?template=issue_report.yml",
            title="[Issue]: {title}",
            headings=(
                ("Problem Description", ("summary", "expected", *_EVIDENCE)),
                ("Operating System", ("system",)),
                ("CPU", ("cpu",)),
                ("GPU", ("gpu",)),
                ("ROCm Version", ("rocm",)),
                ("ROCm Component", ("communication",)),
                ("Steps to Reproduce", ("reproduce",)),
                ("(Optional for Linux users) Output of /opt/rocm/bin/rocminfo --support", ("environment",)),
                ("Additional Information", ("evidence",)),
            ),
            collectors=("rocminfo", "amd-smi", "amd-smi-process", "rocm-techsupport", "torch", "dmesg"),
        ),
    )
}
