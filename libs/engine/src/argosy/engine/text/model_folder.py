"""A tokenizer from a model's Hugging Face files."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Encoder

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.text.chat_template import ChatTemplates
from argosy.engine.text.sim_vocabulary import sim_tokenizer
from argosy.engine.text.tokenizer import Tokenizer

SIM = "sim"
SPECIAL = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""The tokens that Hugging Face names to chat templates."""


def load(source: str) -> Tokenizer:
    """The tokenizer of a model folder, or of the `sim` engine.

    Raises ArgosyError (NOT_READY) naming what is missing.
    """
    return sim_tokenizer() if source == SIM else folder_tokenizer(Path(source))


def folder_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json, tokenizer_config.json and the chat templates."""
    try:
        encoder = Encoder.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        templates = ChatTemplates(chat_templates(folder, config), special_tokens(folder, config))
    except Exception as error:
        raise ArgosyError(
            Reason.NOT_READY,
            f"model files missing or broken in {folder}: {error}. "
            "Prepare the model with `argosy model fetch NAME`, or correct spec.model.source",
        ) from error
    # These are left in files by those who trained the model; Hugging Face ignores them as well.
    encoder.no_truncation()
    encoder.no_padding()
    eos = templates.special_tokens.get("eos_token")
    ids = [encoder.token_to_id(eos)] if eos else []
    generation = folder / "generation_config.json"
    if generation.exists():
        more = json.loads(generation.read_text()).get("eos_token_id")
        ids += more if isinstance(more, list) else [more]
    return Tokenizer(encoder, templates, tuple(dict.fromkeys(i for i in ids if i is not None)))


def chat_templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Templates by name. Files beside the tokenizer go before what its configuration holds."""
    found = {}
    if (default := folder / "chat_template.jinja").exists():
        found["default"] = default.read_text()
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[path.stem] = path.read_text()
    if found:
        return found
    inside = config.get("chat_template") or {}
    if isinstance(inside, str):
        return {"default": inside}
    return {entry["name"]: entry["template"] for entry in inside}


def special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """The special tokens a template may name. As with Hugging Face, absent ones are undefined."""
    older = folder / "special_tokens_map.json"
    if "added_tokens_decoder" not in config and older.exists():
        config = config | json.loads(older.read_text())
    named = {name: config.get(name) for name in SPECIAL}
    contents = {n: v.get("content") if isinstance(v, dict) else v for n, v in named.items()}
    return {name: content for name, content in contents.items() if content is not None}
