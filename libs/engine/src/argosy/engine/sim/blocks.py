"""Paged KV memory with prefix reuse, as block counts and hashes; no bytes."""

from collections import OrderedDict

from argosy.engine.api import BlocksChanged
from argosy.engine.changes import NetChanges


class BlockPool:
    """`total` blocks. A full block is known by its chained hash and may be shared.

    Owner of a block: a request (it counts a reference), or nobody (it stays cached,
    least recently used first to go), or free. used + cached + free = total.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._references: dict[int, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._private = 0
        self._changes = NetChanges()

    @property
    def used(self) -> int:
        """Blocks some request needs now."""
        return len(self._references) + self._private

    @property
    def available(self) -> int:
        """Blocks that could be had now, cached ones included."""
        return self.total - self.used

    def prefix_hit_blocks(self, hashes: list[int]) -> int:
        """Leading blocks of a prompt that are here already."""
        hit = 0
        for block in hashes:
            if block not in self._references and block not in self._cached:
                break
            hit += 1
        return hit

    def acquire(self, hashes: list[int], private: int) -> bool:
        """Take a prompt's full blocks and `private` partial ones; False if they do not fit."""
        resident = [h for h in hashes if h in self._references]
        revived = [h for h in hashes if h in self._cached]
        fresh = len(hashes) - len(resident) - len(revived)
        if len(revived) + fresh + private > self.available:
            return False
        for block in revived:
            del self._cached[block]
            self._references[block] = 0
        self._make_room(fresh + private)
        for block in hashes:
            if block not in self._references:
                self._changes.store(block)
            self._references[block] = self._references.get(block, 0) + 1
        self._private += private
        return True

    def grow(self) -> bool:
        """One more private block, for tokens being generated; False if none is left."""
        if self.available < 1:
            return False
        self._make_room(1)
        self._private += 1
        return True

    def release(self, hashes: list[int], private: int) -> None:
        """Give a request's blocks back; full ones stay cached, last of the prompt first out."""
        self._private -= private
        for block in reversed(hashes):
            self._references[block] -= 1
            if self._references[block] == 0:
                del self._references[block]
                self._cached[block] = None

    def take_changes(self) -> BlocksChanged | None:
        """Which blocks came and went since the last call; None for nothing."""
        return self._changes.take()

    def check(self) -> None:
        """Raise AssertionError, with all terms, unless the books balance."""
        cached, used = len(self._cached), self.used
        terms = f"used {used} + cached {cached} of total {self.total}"
        assert self._private >= 0, terms
        assert used + cached <= self.total, terms

    def _make_room(self, blocks: int) -> None:
        free = self.total - self.used - len(self._cached)
        for _ in range(blocks - free):
            victim, _ = self._cached.popitem(last=False)
            self._changes.remove(victim)
