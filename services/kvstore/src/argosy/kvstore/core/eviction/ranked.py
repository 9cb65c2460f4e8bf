"""Policies that rank blocks, and evict the block of the least rank."""

import heapq
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from argosy.kvstore.core.eviction.chains import ChainPolicy
from argosy.kvstore.core.eviction.policy import Key

HEAP_SLACK = 64
"""A heap may hold this many entries, and two for each block, before it is built anew: outdated
entries then cost at most as much again as those that count, also in a store of few blocks."""


class RankedPolicy(ChainPolicy):
    """A block's rank may change only when the block is requested."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._heap: list[tuple[tuple[int, ...], int, Key]] = []
        """(rank, sequence, key). An outdated entry is dropped when it comes to the top."""
        self._entries = 0

    def victim(self, now_us: int) -> Key | None:
        """The block with the least rank among those that may be evicted."""
        heap = self._heap
        while heap:
            rank, _, key = heap[0]
            if self._may_go(key) and rank == self._rank(key):
                return key
            heapq.heappop(heap)
        return None

    def to_plain(self) -> dict[str, Any]:
        """See EvictionPolicy."""
        return {
            **self.chains_to_plain(),
            "heap": self._heap,
            "entries": self._entries,
            "ranks": self._ranks_to_plain(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """See EvictionPolicy."""
        made = cls(plain["capacity"])
        made.chains_from_plain(plain)
        made._heap = [(tuple(rank), number, key) for rank, number, key in plain["heap"]]
        made._entries = plain["entries"]
        made._ranks_from_plain(plain["ranks"])
        return made

    @abstractmethod
    def _rank(self, key: Key) -> tuple[int, ...]:
        """The block's rank now: the least is evicted first."""

    @abstractmethod
    def _ranks_to_plain(self) -> dict[str, Any]:
        """What ranks are made of, as plain data."""

    @abstractmethod
    def _ranks_from_plain(self, plain: dict[str, Any]) -> None:
        """Take in what `_ranks_to_plain` gave."""

    def _freed(self, key: Key) -> None:
        self._entries += 1
        heapq.heappush(self._heap, (self._rank(key), self._entries, key))
        if len(self._heap) > 2 * len(self._blocks) + HEAP_SLACK:
            self._rebuild()

    def _ranks_changed(self, chain: Sequence[Key]) -> None:
        """The ranks of these blocks have changed."""
        for key in chain:
            if self._may_go(key):
                self._freed(key)

    def _rebuild(self) -> None:
        free = [key for key in self._blocks if self._may_go(key)]
        self._heap = [(self._rank(key), number, key) for number, key in enumerate(free)]
        heapq.heapify(self._heap)
        self._entries = len(free)
