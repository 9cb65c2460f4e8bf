"""The `sim` engine's vocabulary: 256 bytes, ChatML's two marks, and a few words."""

import functools

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from argosy.engine.text.chat_template import ChatTemplates
from argosy.engine.text.tokenizer import Tokenizer

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
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@functools.cache
def sim_tokenizer() -> Tokenizer:
    """The tokenizer of the `sim` engine, with ChatML as its template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoder = Encoder(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>")])
    encoder.add_tokens([AddedToken(word, normalized=False) for word in SIM_WORDS])
    eos = encoder.token_to_id("<|im_end|>")
    assert eos is not None
    templates = ChatTemplates({"default": SIM_TEMPLATE}, {"eos_token": "<|im_end|>"})
    return Tokenizer(encoder, templates, (eos,))
