"""LRU-2 (O'Neil, SIGMOD '93): by the last request but one; blocks requested once go first."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from argosy.kvstore.core.eviction.policy import Key
from argosy.kvstore.core.eviction.ranked import RankedPolicy

GHOSTS_PER_BLOCK = 2
"""How many evicted blocks are remembered for each block of capacity. A second request counts only
while the first is remembered; twice the capacity is what the learned policy remembers too."""


class Lru2Policy(RankedPolicy):
    """Remembers evicted blocks (ghosts), so that a second request counts after the first copy is
    gone.
    """

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._asks = 0
        self._times: dict[Key, tuple[int, int]] = {}
        """(last request but one or 0, last request), of held blocks and ghosts."""
        self._ghosts: OrderedDict[Key, None] = OrderedDict()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """See EvictionPolicy."""
        self._asks += 1
        times, never = self._times, (0, 0)
        for key in chain:
            times[key] = (times.get(key, never)[1], self._asks)
            if not self._held(key):
                self._remember(key)
        self._ranks_changed(chain)

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """See EvictionPolicy."""
        self._ghosts.pop(key, None)
        super().stored(key, parent, now_us)

    def removed(self, key: Key) -> None:
        """See EvictionPolicy. The block becomes a ghost."""
        super().removed(key)
        if key in self._times:
            self._remember(key)

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """See EvictionPolicy: blocks requested twice are."""
        return self._rank(key)[0] > 0

    def _remember(self, key: Key) -> None:
        self._ghosts[key] = None
        self._ghosts.move_to_end(key)
        if len(self._ghosts) > GHOSTS_PER_BLOCK * self.capacity_blocks:
            gone, _ = self._ghosts.popitem(last=False)
            del self._times[gone]

    def _rank(self, key: Key) -> tuple[int, ...]:
        return self._times.setdefault(key, (0, self._asks))

    def _ranks_to_plain(self) -> dict[str, Any]:
        return {
            "asks": self._asks,
            "times": list(self._times.items()),
            "ghosts": list(self._ghosts),
        }

    def _ranks_from_plain(self, plain: dict[str, Any]) -> None:
        self._asks = plain["asks"]
        self._times = {key: (before, last) for key, (before, last) in plain["times"]}
        self._ghosts = OrderedDict.fromkeys(plain["ghosts"])
