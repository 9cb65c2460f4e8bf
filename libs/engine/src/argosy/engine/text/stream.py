"""Text from tokens as they stream in, up to a stop string."""

import codecs
from collections.abc import Sequence

from argosy.engine.text.token_bytes import INCOMPLETE
from argosy.engine.text.tokenizer import Tokenizer

BYTE_BY_BYTE = "argosy.byte_by_byte"


def replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Byte-fallback decoders put a replacement character for every byte, not every sequence."""
    assert isinstance(error, UnicodeDecodeError)
    return INCOMPLETE * (error.end - error.start), error.end


codecs.register_error(BYTE_BY_BYTE, replace_each_byte)


class TextStream:
    """Turns tokens into text as they come, and watches for stop strings.

    The text is what the tokenizer makes of all the tokens after the prompt's. Bytes that
    are no character become U+FFFD; whole characters beside them stay, since they are given
    as soon as they are complete. Text that could still become a stop string, or a character
    that is not complete, is held back. The same tokens always give the same text in the
    same pieces, so an answer resumed elsewhere goes on exactly where it stopped.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        keep_stop: bool = False,
        skip_special: bool = True,
        min_tokens: int = 0,
    ) -> None:
        """keep_stop: the stop string is part of the text. skip_special: special tokens are not.

        min_tokens: a stop string that is complete with this many tokens is text like any other.
        """
        self._bytes = tokenizer.token_bytes
        self._special = tokenizer.special_ids if skip_special else frozenset()
        self._keep_stop = keep_stop
        self._unstoppable_tokens = min_tokens
        errors = BYTE_BY_BYTE if tokenizer.has_byte_tokens else "replace"
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)
        self._begun = any(
            self._bytes[token_id]
            for token_id in reversed(prompt_token_ids)
            if token_id not in self._special
        )
        self._stop = [text for text in stop if text]
        self._held = ""
        self._characters = 0
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Text that is certain now. After a stop string `stopped` is set."""
        self._unstoppable_tokens -= 1
        if self.stopped or token_id in self._special:
            return ""
        text = self._decoder.decode(self._piece(token_id))
        self._begun = self._begun or bool(self._bytes[token_id])
        self._characters += len(text)
        return self._before_stop(text) if self._stop else text

    def offset_of(self, token_id: int) -> int:
        """At which character of the text the next token begins, if it is this one.

        For one that goes on with a character this is the offset of that character.
        """
        if token_id in self._special or not (first_byte := self._piece(token_id)[:1]):
            return self._characters
        state = self._decoder.getstate()
        made = len(self._decoder.decode(first_byte))
        is_incomplete = bool(self._decoder.getstate()[0])
        self._decoder.setstate(state)
        return self._characters + (made if is_incomplete else made - 1)

    def finish(self) -> str:
        """What was held back, at the end of an answer that no stop string ended."""
        text, self._held = self._held, ""
        return text

    def _piece(self, token_id: int) -> bytes:
        return self._bytes[token_id] if self._begun else self._bytes.first(token_id)

    def _before_stop(self, text: str) -> str:
        self._held += text
        found = [(at, len(stop)) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found and self._unstoppable_tokens < 0:
            self.stopped = True
            at, stop_characters = min(found)
            text, self._held = self._held[: at + stop_characters * self._keep_stop], ""
            return text
        keep = max(overlap(self._held, stop) for stop in self._stop)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`, which is not empty."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0 and not stop.startswith(text[start:]):
        start = text.find(stop[0], start + 1)
    return len(text) - start if start >= 0 else 0
