"""What a GGUF file says about its model, as plain values and as a Hugging Face config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy.cli.models.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFReader

_NUMBERS: Mapping[str, str] = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "rope.dimension_count",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "vocab_size": "vocab_size",
}
_TOKENS: Mapping[str, str] = {"bos": "bos", "eos": "eos", "pad": "padding"}


def read_metadata(reader: GGUFReader, *keys: str) -> dict[str, Any]:
    """The values of the metadata `keys` as plain Python values; ModelError names a missing one."""
    missing = [key for key in keys if key not in reader.fields]
    if missing:
        raise ModelError("the GGUF file lacks metadata", expected=", ".join(missing))
    return {key: reader.fields[key].contents() for key in keys}


def llama_config(reader: GGUFReader, tied: bool) -> dict[str, Any]:
    """The Hugging Face config that the file's metadata describes.

    `tied` says that the output layer shares the embedding's weights. Raises ModelError when the
    architecture is not llama or a number is missing.
    """
    architecture = read_metadata(reader, "general.architecture")["general.architecture"]
    if architecture != "llama":
        raise ModelError("unsupported GGUF file", expected="architecture llama", got=architecture)
    numbers = {name: f"llama.{key}" for name, key in _NUMBERS.items()}
    special = {
        f"{name}_token_id": f"tokenizer.ggml.{key}_token_id" for name, key in _TOKENS.items()
    }
    keys = numbers | special
    found = read_metadata(reader, *keys.values())
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        # "torch_dtype" is what transformers before version 5 reads, and version 5 accepts it too.
        "torch_dtype": "bfloat16",
        **{name: _shortest(found[key]) for name, key in keys.items()},
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as UTF-8 JSON in the given key order, ending in a newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _shortest(value: float) -> float:
    """A metadata number as it was written down: 1e-05, not the double nearest to its float32."""
    import numpy as np

    return value if isinstance(value, int) else float(str(np.float32(value)))
