"""A model small enough for any machine, made offline: real architecture and tokenizer, dummy weights.

The folder holds no weights: load it with ``load_format="dummy"``. Only those of the kinds ``random`` and ``wide`` do:
dummy weights give the same answer to everything, so that answers could not be compared. ``wide`` has rows as long as
those of a real model of a billion parameters, for what depends on how their sums are cut (0.8 GB). Head size 64, since
vLLM's CPU attention needs at least 32.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

TEXT: Final = "the crash cart rolls to a machine that died and nobody has to guess why it did so again"
UNKNOWN: Final = "<unk>"
VOCABULARY: Final = 512
TEMPLATE: Final = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
DENSE: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
MOE: Final[dict[str, Any]] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
WIDE: Final[dict[str, Any]] = DENSE | {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
KINDS: Final = {"dense": DENSE, "moe": MOE, "random": DENSE, "wide": WIDE}
WITH_WEIGHTS: Final = frozenset({"random", "wide"})
COMMON: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def tiny_model(kind: str = "dense") -> str:
    """Return the folder of a tiny model of a kind (``dense``, ``moe``, ``random`` or ``wide``), made on the first call.

    The folder lies below ``CRASHCART_CACHE``; it is moved into place in one step, so that runs can share it.
    """
    base = Path(os.environ.get("CRASHCART_CACHE", Path.home() / ".cache" / "crashcart")) / "models"
    target = base / f"tiny-{kind}-1"
    if not target.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=base))
        _write(building, KINDS[kind])
        if kind in WITH_WEIGHTS:
            _write_weights(building, KINDS[kind])
        try:
            building.rename(target)
        except OSError:
            shutil.rmtree(building)
            if not target.is_dir():
                raise
    return str(target)


def _write(folder: Path, config: dict[str, Any]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[UNKNOWN, "<s>", "</s>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": UNKNOWN,
                "bos_token": "<s>",
                "eos_token": "</s>",
                "chat_template": TEMPLATE,
                "model_max_length": COMMON["max_position_embeddings"],
            }
        )
    )
    (folder / "config.json").write_text(json.dumps(COMMON | config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))


def _write_weights(folder: Path, config: dict[str, Any]) -> None:
    """Write random weights of a seed, large enough for answers that depend on all of what was asked."""
    import numpy as np
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    hidden, inner = config["hidden_size"], config["intermediate_size"]

    def matrix(rows: int, columns: int) -> Any:
        return (random.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)

    norm = np.ones(hidden, dtype=np.float32)
    weights = {"model.embed_tokens.weight": matrix(VOCABULARY, hidden) * hidden**0.5, "model.norm.weight": norm}
    weights["lm_head.weight"] = matrix(VOCABULARY, hidden)
    for layer in range(config["num_hidden_layers"]):
        parts = {f"self_attn.{name}_proj": matrix(hidden, hidden) for name in "qkvo"}
        parts |= {f"mlp.{name}_proj": matrix(inner, hidden) for name in ("gate", "up")}
        parts |= {"mlp.down_proj": matrix(hidden, inner), "input_layernorm": norm, "post_attention_layernorm": norm}
        weights |= {f"model.layers.{layer}.{name}.weight": value for name, value in parts.items()}
    save_file(weights, str(folder / "model.safetensors"))
