"""A GGUF file's byte-level BPE tokenizer as Hugging Face tokenizer files.

Written directly, because the loader in transformers needs torch and ignores which rule the file
names for splitting text before BPE, so that it would encode runs of spaces before digits wrongly.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from argosy.cli.models.errors import ModelError
from argosy.cli.models.gguf_metadata import read_metadata, write_json

_PREFIX = "tokenizer.ggml."
_CONTROL_TOKEN = 3
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
_SPLITS = {"smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]}


def write_tokenizer(gguf_file: Path, out: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja into `out`.

    Control tokens, such as those that delimit chat messages, always encode to a single id; no
    token is added at the beginning or end of a text. Raises ModelError when the file has no chat
    template or its tokenizer is of a kind not known here.
    """
    from gguf import GGUFReader

    reader = GGUFReader(gguf_file)
    found = read_metadata(reader, "tokenizer.chat_template", f"{_PREFIX}model", f"{_PREFIX}pre")
    kind = (found[f"{_PREFIX}model"], found[f"{_PREFIX}pre"])
    if kind[0] != "gpt2" or kind[1] not in _SPLITS:
        known = " or ".join(f"gpt2/{pre}" for pre in _SPLITS)
        raise ModelError("unsupported GGUF tokenizer", expected=known, got="/".join(kind))
    lists = [f"{_PREFIX}{key}" for key in ("tokens", "token_type", "merges")]
    tokens, types, merges = read_metadata(reader, *lists).values()
    special = [number for number, token_type in enumerate(types) if token_type == _CONTROL_TOKEN]
    write_json(out / "tokenizer.json", _tokenizer(tokens, special, merges, _SPLITS[kind[1]]))
    template = found["tokenizer.chat_template"]
    write_json(out / "tokenizer_config.json", _settings(reader, tokens, template))
    # Newer readers look for the template in a file of its own, older ones among the settings.
    (out / "chat_template.jinja").write_text(template, encoding="utf-8")


def _tokenizer(
    tokens: Sequence[str],
    special: Sequence[int],
    merges: Sequence[str],
    splits: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The content of tokenizer.json: how text becomes ids and back."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, tokens[number]) for number in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
        "post_processor": None,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def _added(number: int, content: str) -> dict[str, Any]:
    matching = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **matching, "special": True}


def _settings(reader: Any, tokens: Sequence[str], template: str) -> dict[str, Any]:
    """The content of tokenizer_config.json: special tokens, context length and chat template."""
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    keys = {f"{role}_token": f"{_PREFIX}{key}_token_id" for role, key in roles.items()}
    length = "llama.context_length"
    found = read_metadata(reader, length, *keys.values())
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": found[length],
        **{role: tokens[found[key]] for role, key in keys.items()},
        "chat_template": template,
    }
