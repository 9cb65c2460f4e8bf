"""Between text and tokens: encoding, chat templates, and decoding as tokens stream in.

Real models bring their Hugging Face files. The `sim` engine has a vocabulary of its
own (bytes and a few words), so that all of Argosy runs without any model.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from argosy.domain.errors import ArgosyError, Reason

SIM = "sim"
SIM_WORDS = tuple(
    " " + word
    for word in (
        "the a and of to in by on house door wall roof road bridge tree garden river wind hill "
        "book letter lamp table window paper basket journey people teacher bird rain quiet "
        "north south east west drifts turns holds carries crosses finds leaves brings waits "
        "under over beyond before after slowly gladly far near grey bright deep old silver"
    ).split()
)
SIM_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"
)
PRIME_TOKENS = 8
INCOMPLETE = "\ufffd"
"""What bytes that are no character, or not yet one, decode to."""


@dataclass(frozen=True)
class Tokenizer:
    """A model's vocabulary and chat template."""

    encoder: Encoder
    template: str
    eos_token_ids: tuple[int, ...]
    special: dict[str, str]

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Raises BAD_REQUEST for text that is not Unicode."""
        return self._encode(text, add_special_tokens=True)

    def encode_chat(self, messages: Sequence[Any], tools: Sequence[Any] | None = None) -> list[int]:
        """Token ids of a conversation, up to where the assistant speaks.

        messages, tools: as in OpenAI's API. Raises BAD_REQUEST if the template refuses.
        """
        try:
            text = compiled(self.template).render(
                messages=list(messages),
                tools=list(tools) if tools else None,
                add_generation_prompt=True,
                **self.special,
            )
        except (jinja2.TemplateError, TypeError, AttributeError, ValueError) as error:
            raise ArgosyError(
                Reason.BAD_REQUEST, f"the model's chat template refuses these messages: {error}"
            ) from error
        return self._encode(text, add_special_tokens=False)

    def token_text(self, token_id: int) -> str:
        """One token as text, for logprobs; may be a lone replacement character."""
        return self.encoder.decode([token_id], skip_special_tokens=False)

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        try:
            return list(self.encoder.encode(text, add_special_tokens=add_special_tokens).ids)
        except (TypeError, UnicodeError) as error:
            raise ArgosyError(
                Reason.BAD_REQUEST, "the text holds characters that are not Unicode scalar values"
            ) from error


class TextStream:
    """Turns tokens into text as they come, and watches for stop strings.

    Text that could still become a stop string, or a character that is not complete,
    is held back. The same tokens always give the same text in the same pieces, so an
    answer resumed elsewhere goes on exactly where it stopped.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int], stop: Sequence[str] = ()
    ) -> None:
        prime = list(prompt_token_ids[-PRIME_TOKENS:])
        # A prime that ends inside a character would come out as part of the answer.
        while tokenizer.encoder.decode(prime).endswith(INCOMPLETE):
            prime.pop()
        self._tokenizer = tokenizer
        self._stream = decoders.DecodeStream(ids=prime, skip_special_tokens=True)
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Text that is certain now. After a stop string `stopped` is set."""
        if self.stopped:
            return ""
        self._held += self._stream.step(self._tokenizer.encoder, token_id) or ""
        starts = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if starts:
            self.stopped = True
            text, self._held = self._held[: min(starts)], ""
            return text
        keep = max((overlap(self._held, text) for text in self._stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def finish(self) -> str:
        """What was held back, at the end of an answer that no stop string ended."""
        text, self._held = self._held, ""
        return text


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def load(source: str) -> Tokenizer:
    """The tokenizer of a model folder, or of the `sim` engine.

    Raises ArgosyError (NOT_READY) naming what is missing.
    """
    return sim_tokenizer() if source == SIM else folder_tokenizer(Path(source))


def folder_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json, tokenizer_config.json and the chat template."""
    try:
        encoder = Encoder.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
    except Exception as error:
        raise ArgosyError(
            Reason.NOT_READY,
            f"model files missing or broken in {folder}: {error}. "
            "Prepare the model with `argosy model fetch NAME`, or correct spec.model.source",
        ) from error
    beside = folder / "chat_template.jinja"
    template = beside.read_text() if beside.exists() else config.get("chat_template") or ""
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        special[name] = (value.get("content") if isinstance(value, dict) else value) or ""
    ids = [encoder.token_to_id(special["eos_token"])] if special["eos_token"] else []
    generation = folder / "generation_config.json"
    if generation.exists():
        eos = json.loads(generation.read_text()).get("eos_token_id")
        ids += eos if isinstance(eos, list) else [eos]
    eos_ids = tuple(dict.fromkeys(i for i in ids if i is not None))
    return Tokenizer(encoder, template, eos_ids, special)


@functools.cache
def sim_tokenizer() -> Tokenizer:
    """256 bytes, ChatML's two marks, and SIM_WORDS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoder = Encoder(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>")])
    encoder.add_tokens([AddedToken(word, normalized=False) for word in SIM_WORDS])
    eos = encoder.token_to_id("<|im_end|>")
    assert eos is not None
    return Tokenizer(encoder, SIM_TEMPLATE, (eos,), {"eos_token": "<|im_end|>"})


@functools.cache
def compiled(template: str) -> jinja2.Template:
    """A chat template, compiled as Hugging Face does it. Sandboxed: models are data."""
    if not template:
        raise ArgosyError(
            Reason.BAD_REQUEST, "this model has no chat template; use /v1/completions"
        )
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, indent=options.get("indent")
    )
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
