"""Least recently used."""

from collections.abc import Sequence
from typing import Any

from argosy.kvstore.core.eviction.policy import Key
from argosy.kvstore.core.eviction.ranked import RankedPolicy


class LruPolicy(RankedPolicy):
    """The block whose last request is the longest ago is evicted first."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._asks = 0
        self._last: dict[Key, int] = {}
        """The number of the last request for a block: of held blocks, and of the last chain
        requested, whose blocks may be about to be stored."""
        self._awaited: Sequence[Key] = ()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """See EvictionPolicy."""
        self._asks += 1
        for key in self._awaited:
            if key not in self._blocks:
                self._last.pop(key, None)
        self._awaited = tuple(chain)
        self._last.update(dict.fromkeys(chain, self._asks))
        self._ranks_changed(chain)

    def removed(self, key: Key) -> None:
        """See EvictionPolicy."""
        super().removed(key)
        self._last.pop(key, None)

    def _rank(self, key: Key) -> tuple[int, ...]:
        return (self._last.setdefault(key, self._asks),)

    def _ranks_to_plain(self) -> dict[str, Any]:
        return {
            "asks": self._asks,
            "last": list(self._last.items()),
            "awaited": list(self._awaited),
        }

    def _ranks_from_plain(self, plain: dict[str, Any]) -> None:
        self._asks = plain["asks"]
        self._last = dict(plain["last"])
        self._awaited = plain["awaited"]
