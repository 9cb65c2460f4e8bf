"""Numbers that depend on a prompt and nothing else, and bounds on what is made with them."""

from collections.abc import Sequence
from typing import TypeVar

import xxhash

from argosy.engine.api import EngineRefused

Item = TypeVar("Item")

STEPS_MAX = 20_000
CHARS_MAX = 16_384
"""A structured answer of the sim engine is invented whole, in one go, on the event loop."""


class Draw:
    """Choices that are the same wherever the same answer is made.

    Raises EngineRefused when a form takes more than STEPS_MAX steps to satisfy.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._steps = 0

    def below(self, limit: int) -> int:
        """A number from 0 up to `limit`, exclusive."""
        self.step()
        digest = xxhash.xxh3_64_intdigest(self._steps.to_bytes(4, "little"), seed=self._seed)
        return int(digest % limit)

    def of(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def step(self) -> None:
        """Count one step of work."""
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise EngineRefused(
                f"the sim engine found no answer of this form in {STEPS_MAX} steps: simplify it"
            )
