"""A model's vocabulary and chat templates: text and chats to tokens, and tokens to text."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as Encoder

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.text.chat_template import ChatOptions, ChatTemplates
from argosy.engine.text.token_bytes import TokenBytes

DEFAULTS = ChatOptions()


@dataclass(frozen=True)
class Tokenizer:
    """A model's vocabulary and chat templates."""

    encoder: Encoder
    templates: ChatTemplates
    eos_token_ids: tuple[int, ...]

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of plain text. Raises BAD_REQUEST for text that is not Unicode."""
        try:
            return list(self.encoder.encode(text, add_special_tokens=add_special_tokens).ids)
        except (TypeError, UnicodeError) as error:
            raise ArgosyError(
                Reason.BAD_REQUEST, "the text holds characters that are not Unicode scalar values"
            ) from error

    def encode_chat(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        options: ChatOptions = DEFAULTS,
    ) -> list[int]:
        """Token ids of a conversation, up to where the assistant speaks.

        messages, tools: as in OpenAI's API. Raises BAD_REQUEST if the template refuses.
        """
        rendered = self.templates.render(messages, tools, options)
        return self.encode(rendered, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of tokens. Raises BAD_REQUEST for an id that the vocabulary has not."""
        for token_id in token_ids:
            if not 0 <= token_id < 2**32 or self.encoder.id_to_token(token_id) is None:
                raise ArgosyError(
                    Reason.BAD_REQUEST, f"token id {token_id} is not in the vocabulary"
                )
        return self.encoder.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        """The bytes of each token, in the middle of a text."""
        return TokenBytes(self.encoder)

    @functools.cached_property
    def special_ids(self) -> frozenset[int]:
        """Tokens that are no part of an answer's text."""
        added = self.encoder.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @functools.cached_property
    def has_byte_tokens(self) -> bool:
        """Whether rare characters are spelt in tokens <0x00> to <0xFF>."""
        return self.encoder.token_to_id("<0x80>") is not None
