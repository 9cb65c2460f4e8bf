"""A llama-architecture GGUF file as a Hugging Face config and bfloat16 safetensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy.cli.models.errors import ModelError
from argosy.cli.models.gguf_metadata import llama_config, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_weights(gguf_file: Path, out: Path, report: Callable[[float], None]) -> None:
    """Write config.json, generation_config.json and model.safetensors into `out`.

    The weights are dequantised to float32 and rounded to bfloat16, the nearest value and ties to
    even, so that the same GGUF file always gives the same bytes. Holds all of them in memory:
    two bytes per parameter. Raises ModelError for anything but a llama-architecture file.
    """
    import ml_dtypes
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf_file)
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    config = llama_config(reader, tied)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights: dict[str, NDArray[Any]] = {}
    for done, tensor in enumerate(reader.tensors, start=1):
        values: Floats = dequantize(tensor.data, tensor.tensor_type)
        if (part := tensor.name.split(".")[-2]) in heads:
            values = undo_rope_permutation(values, heads[part])
        weights[hugging_face_name(tensor.name)] = values.astype(ml_dtypes.bfloat16)
        report(done / len(reader.tensors))
    target = out / "model.safetensors"
    # transformers refuses a safetensors file that does not say which framework's layout it has.
    save_file(weights, target, metadata={"format": "pt"})
    # safetensors makes the file private, but servers often run as another user.
    target.chmod(0o644)
    write_json(out / "config.json", config)
    special = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(out / "generation_config.json", special)


def hugging_face_name(name: str) -> str:
    """The Hugging Face name of a GGUF tensor; ModelError when llama models have no such tensor."""
    if name in _WHOLE:
        return _WHOLE[name]
    match name.split("."):
        case ["blk", layer, part, "weight"] if part in _IN_BLOCK:
            return f"model.layers.{layer}.{_IN_BLOCK[part]}.weight"
    raise ModelError(f"the GGUF file holds the tensor {name}, which llama models do not have")


def undo_rope_permutation(rows: Floats, heads: int) -> Floats:
    """The rows of a query or key projection in Hugging Face's order.

    llama.cpp interleaves the two halves of each head, because it rotates neighbouring rows where
    Hugging Face rotates the first half against the second.
    """
    paired = rows.reshape(heads, -1, 2, rows.shape[-1])
    return paired.swapaxes(1, 2).reshape(rows.shape)
