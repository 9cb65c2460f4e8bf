"""What a model's config.json says that matters for timing."""

import json
from pathlib import Path
from typing import Any

from argosy.domain.errors import ArgosyError, Reason

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def read_config(model_source: str) -> dict[str, Any]:
    """config.json of a folder of Hugging Face files. Raises ArgosyError (BAD_REQUEST)."""
    path = Path(model_source) / "config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        message = f"cannot read {path}: {error}. Prepare the model with `argosy model fetch NAME`"
        raise ArgosyError(Reason.BAD_REQUEST, message) from error
    return found


def kv_bytes_per_token(config: dict[str, Any], dtype: str) -> int:
    """Keys and values of one token in all layers. dtype `auto`: as the model says.

    Raises ArgosyError (BAD_REQUEST) when the config does not tell.
    """
    if dtype == "auto":
        dtype = str(config.get("dtype") or config.get("torch_dtype"))
    try:
        heads = config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or heads
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        return int(2 * config["num_hidden_layers"] * kv_heads * head_dim * DTYPE_BYTES[dtype])
    except KeyError as error:
        message = (
            f"the model's config.json does not tell its KV's size ({error} is missing or unknown): "
            "only models that keep keys and values per head can be profiled"
        )
        raise ArgosyError(Reason.BAD_REQUEST, message) from error
