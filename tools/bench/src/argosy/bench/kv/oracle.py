"""Belady's rule: the block whose next request is the farthest away is evicted first.

It has to be told the future, so it serves benchmarks alone. What it finds is a bound for other
policies, though not a strict one: it does not weigh whole prefixes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from argosy.kvstore.core.eviction.policy import Key
from argosy.kvstore.core.eviction.ranked import RankedPolicy

NEVER = 1 << 62
"""Later than any request."""


class NextUseOracle(RankedPolicy):
    """Requests must come in the order of `future`."""

    def __init__(self, capacity_blocks: int, future: Iterable[Sequence[Key]] = ()) -> None:
        super().__init__(capacity_blocks)
        self._asks = 0
        self._next: dict[Key, list[int]] = {}
        """The numbers of the requests for a block that are to come, the last one first."""
        for number, chain in enumerate(future, 1):
            for key in chain:
                self._next.setdefault(key, []).append(number)
        for times in self._next.values():
            times.reverse()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """See EvictionPolicy."""
        self._asks += 1
        for key in chain:
            times = self._next.get(key, [])
            while times and times[-1] <= self._asks:
                times.pop()
        self._ranks_changed(chain)

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """See EvictionPolicy: blocks that will be requested again are."""
        return bool(self._next.get(key))

    def _rank(self, key: Key) -> tuple[int, ...]:
        times = self._next.get(key)
        return (-(times[-1] if times else NEVER),)

    def _ranks_to_plain(self) -> dict[str, Any]:
        return {"asks": self._asks, "next": list(self._next.items())}

    def _ranks_from_plain(self, plain: dict[str, Any]) -> None:
        self._asks = plain["asks"]
        self._next = dict(plain["next"])
