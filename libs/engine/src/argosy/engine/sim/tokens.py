"""The sim engine's answers: words that depend on the whole text so far, and nothing else.

So an answer continued elsewhere from `prompt + tokens so far` is the same answer.
"""

from array import array
from collections.abc import Sequence

import xxhash

EOS_ONE_IN = 96


class TokenSource:
    """Chooses the next token from a running hash of all tokens before it."""

    def __init__(
        self, token_ids: Sequence[int], word_ids: Sequence[int], eos_id: int, salt: int = 0
    ) -> None:
        self._state = xxhash.xxh3_64(array("I", token_ids).tobytes(), seed=salt)
        self._words = word_ids
        self._eos = eos_id

    def next(self, *, ignore_eos: bool) -> int:
        """The next token; the end-of-answer token about once in EOS_ONE_IN."""
        value = self._state.intdigest()
        words = self._words
        ends = not ignore_eos and value % EOS_ONE_IN == 0
        token = self._eos if ends else words[(value >> 8) % len(words)]
        self._state.update(token.to_bytes(4, "little"))
        return token

    def answer(self, tokens_max: int, *, ignore_eos: bool) -> tuple[list[int], str]:
        """A whole answer, and why it ends: "stop" or "length"."""
        tokens: list[int] = []
        while len(tokens) < tokens_max:
            tokens.append(self.next(ignore_eos=ignore_eos))
            if self.is_eos(tokens[-1]):
                return tokens, "stop"
        return tokens, "length"

    def is_eos(self, token_id: int) -> bool:
        """Whether this token ends an answer."""
        return token_id == self._eos
