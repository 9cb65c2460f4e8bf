"""The sim engine's free answers: words that depend on the whole text so far, and nothing else.

So an answer continued elsewhere from `prompt + tokens so far` is the same answer.

Words are equally likely, and the end of the answer comes about once in EOS_ONE_IN. What options do:

- temperature, top_p, top_k, min_p and the penalties are accepted and change nothing: all of these
  choose among rivals, and an invented token has none. A seed gives another answer, except when
  temperature is 0.
- logit_bias makes tokens likelier or less likely, as it would a model's: see BiasedWords.
- max_tokens, min_tokens, stop_token_ids and ignore_eos mean what they mean elsewhere.
"""

import bisect
import itertools
import math
from array import array
from collections.abc import Mapping, Sequence, Set

import xxhash

from argosy.engine.api import EngineRefused

EOS_ONE_IN = 96
OTHER_LOGIT = -12.0
"""Of tokens that are no words; a word's is 0."""


class BiasedWords:
    """Words, the end and the tokens of a logit_bias, each as likely as its logit says."""

    def __init__(
        self, word_ids: Sequence[int], eos_id: int, bias: Mapping[int, float], barred: Set[int]
    ) -> None:
        logits = dict.fromkeys(bias, OTHER_LOGIT) | dict.fromkeys(word_ids, 0.0)
        logits[eos_id] = math.log(len(word_ids) / (EOS_ONE_IN - 1))
        for token_id, added in bias.items():
            logits[token_id] += added
        self._token_ids = [token_id for token_id in logits if token_id not in barred]
        if not self._token_ids:
            raise EngineRefused("min_tokens cannot be kept: every word would end the answer")
        weights = (math.exp(logits[token_id]) for token_id in self._token_ids)
        self._sums = list(itertools.accumulate(weights))

    def choose(self, value: int) -> int:
        """The token for a hash of 64 bits."""
        at = bisect.bisect_right(self._sums, value / 2**64 * self._sums[-1])
        return self._token_ids[min(at, len(self._token_ids) - 1)]


class TokenSource:
    """Chooses the next token from a running hash of all tokens before it."""

    def __init__(
        self,
        token_ids: Sequence[int],
        word_ids: Sequence[int],
        eos_id: int,
        salt: int = 0,
        *,
        bias: Mapping[int, float] | None = None,
        stop_ids: Set[int] = frozenset(),
    ) -> None:
        """stop_ids: tokens that end the answer besides `eos_id`."""
        self._state = xxhash.xxh3_64(array("I", token_ids).tobytes(), seed=salt)
        self._words = word_ids
        self._eos = eos_id
        self._bias = bias or {}
        self._stop = stop_ids
        self._biased: dict[Set[int], BiasedWords] = {}

    def answer(
        self, tokens_max: int, *, ignore_eos: bool, min_tokens: int = 0
    ) -> tuple[list[int], str]:
        """A whole answer, and why it ends: "stop" or "length"."""
        tokens: list[int] = []
        endless = frozenset({self._eos}) if ignore_eos else frozenset()
        early = endless | self._stop | {self._eos} if min_tokens else endless
        while len(tokens) < tokens_max:
            barred = early if len(tokens) < min_tokens else endless
            tokens.append(self._next(barred))
            if tokens[-1] in self._stop or (tokens[-1] == self._eos and not ignore_eos):
                return tokens, "stop"
        return tokens, "length"

    def _next(self, barred: Set[int]) -> int:
        value = self._state.intdigest()
        words = self._words
        if self._bias or not self._stop.isdisjoint(barred):
            token = self._weighed(barred).choose(value)
        elif value % EOS_ONE_IN == 0 and self._eos not in barred:
            token = self._eos
        else:
            token = words[(value >> 8) % len(words)]
        self._state.update(token.to_bytes(4, "little"))
        return token

    def _weighed(self, barred: Set[int]) -> BiasedWords:
        if barred not in self._biased:
            self._biased[barred] = BiasedWords(self._words, self._eos, self._bias, barred)
        return self._biased[barred]
