"""One request inside the sim engine, as counts."""

from collections.abc import Sequence as Items
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Sequence:
    """A prompt and its answer. Tokens [0, computed) have KV; the rest wait.

    hashes: full blocks of the prompt, and of the answer as far as it is known.
    answer_tokens: how many it will produce.
    hold: keep the KV after the first token, for a puller.
    pull: the prompt's KV comes by transfer from `far`.
    """

    key: str
    prompt_tokens: int
    answer_tokens: int
    hashes: Items[int]
    hold: bool = False
    pull: bool = False
    far: int = 0
    preloaded: tuple[int, int] = (0, 0)
    """From which block on, and up to which, KV lies ready to be taken in."""
    computed: int = 0
    cached: int = 0
    """Prompt tokens that were here when it was first admitted."""
    saved: int = 0
    """Leading blocks that need no copying to a KV store."""
    produced: int = 0
    preemptions: int = 0
    known: int = 0
    """Leading blocks held by hash."""
    private: int = 0
    """Further blocks, not full or not computed."""
    ready_us: int = 0
    """When the pull is over."""
    decodes: bool = False
    """The prompt is done: a step computes the newest token's KV and yields the next."""

    @property
    def tokens(self) -> int:
        """Prompt and answer so far."""
        return self.prompt_tokens + self.produced

    @property
    def missing(self) -> int:
        """Tokens without KV yet that a step has to prefill."""
        return 0 if self.decodes else self.prompt_tokens + self.produced - self.computed
