"""Made-up secrets, where they were put, and how to tell whether one of them is still there."""

from __future__ import annotations

import base64
import html
import random
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

ALNUM = string.ascii_letters + string.digits


def made(seed: str, length: int, alphabet: str = ALNUM) -> str:
    """Return letters and digits that nobody else has; the same ones for the same seed."""
    chance = random.Random(seed)
    while True:
        word = "".join(chance.choice(alphabet) for _ in range(length))
        if any(char.isdigit() for char in word) or alphabet.isalpha():
            return word


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A secret, and the text that holds it, or the variable."""

    kind: str
    where: str
    secret: str
    text: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.where}"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def wrapped(text: str, width: int, joint: str = "\n") -> str:
    return joint.join(text[start : start + width] for start in range(0, len(text), width))


def readings(text: str) -> Iterator[str]:
    """Yield what a patient reader could make of a text."""
    for once in (text, unquote(text), html.unescape(text), unquote(unquote(text))):
        plain = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), once)
        plain = re.sub(r"\\+x([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), plain)
        yield plain
        yield re.sub(r"[^A-Za-z0-9]", "", re.sub(r"\\+[nr]", "", plain))
    joined = re.sub(r"\s|\\+n", "", text)
    for source in (text, joined):
        for word in re.findall(r"[A-Za-z0-9+/_-]{12,}", source):
            for skip in range(4):
                piece = word[skip:].translate(str.maketrans("-_", "+/"))
                piece = piece[: len(piece) // 4 * 4]
                yield base64.b64decode(piece + "=" * (-len(piece) % 4)).decode("latin-1") if piece else ""
        for word in re.findall(r"(?:[0-9a-fA-F]{2}){8,}", source):
            yield bytes.fromhex(word).decode("latin-1")


def survives(secret: str, text: str) -> bool:
    """Whether the secret, or ten characters of it in a row, can be read off a text in any way that we know."""
    pressed = re.sub(r"[^A-Za-z0-9]", "", secret)
    pieces = {secret[start : start + 10] for start in range(max(1, len(secret) - 9))}
    return any(pressed in reading or any(piece in reading for piece in pieces) for reading in readings(text))


SACRED = """\
Traceback (most recent call last):
  File "/usr/local/lib/python3.11/dist-packages/vllm/v1/engine/core.py", line 1123, in run_engine_core
    engine_core = EngineCoreProc(*args, engine_index=dp_rank, **kwargs)
  File "/usr/local/lib/python3.11/dist-packages/vllm/v1/executor/multiproc_executor.py", line 207, in _init_executor
    self.workers = WorkerProc.wait_for_ready(unready_workers)
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': -11}
Thread 0x00007f3a1c (active): "MainThread"
    ncclStrongStreamSynchronize (libnccl.so.2.28.9)
    commDestroySync (init.cc:2301)
    c10::cuda::CUDACachingAllocator::Native::DeviceCachingAllocator::malloc (CUDACachingAllocator.cpp:1190)
    at::_ops::add_Tensor::call(at::Tensor const&, at::Tensor const&) (Operators_2.cpp:88)
#7  0x00007f3a1c2b4e10 in std::__1::__shared_weak_count::__release_weak () from libstdc++.so.6
vllm==0.32.0
torch==2.13.0+cpu
nvidia-cudnn-cu12==9.10.2.21
nvidia-curand-cu12        10.3.9.90
nvidia-cublas-cu12        12.8.4.1
Driver Version: 580.95.05.01
NCCL version 2.28.9+cuda13.0, cuDNN version 9.10.2.21
Python version: 3.11.7 (main, Dec  8 2023, 18:56:57) [GCC 12.3.0] (64-bit runtime)
Avg prompt throughput: 12.4 tokens/s, Avg generation throughput: 602.7 tokens/s, Running: 1 reqs, KV cache: 3.1%
max_num_batched_tokens=2048, max_tokens=64, eos_token_id=2, pad_token='</s>', bos_token='<s>', num_tokens=1500
tok_s=811.3 ttft_ms=41.7 tpot_ms=1.64 token_ids=[1, 17, 204]
torch.cuda.get_device_name: NVIDIA H200, PCI 00000000:1B:00.0, uuid GPU-9c1f2f0e
commit 1f641c0a96440 sha256:89d53739f5bd9af2e5b251f7f4fe2f7aba6c1d3f9cf5573f6f9ef74cd6f98c9e
listening on 127.0.0.1:33855 and [::1]:8000, tcp://0.0.0.0:29500 rank 0/2 12:34:56.789
KeyError: 'model.layers.0.self_attn.qkv_proj.weight' in load_weights(self, weights) (llama.py:412)
AssertionError: duplicate request id
"""
"""Frames, versions and figures: every line has to come out as it went in."""
