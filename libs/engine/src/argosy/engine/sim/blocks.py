"""Paged KV memory with prefix reuse, as block counts and hashes; no bytes."""

from collections import OrderedDict
from collections.abc import Sequence

from argosy.engine.api import BlocksChanged
from argosy.engine.kv.net_changes import NetChanges


class BlockPool:
    """`total` blocks. A full block whose KV is computed is known by its hash and shared.

    Owner of a block: requests, by hash (each counts a reference) or privately; or nobody:
    then it stays cached, least recently used first to go; or it is free.
    used + cached + free = total.
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

    def known_blocks(self) -> list[int]:
        """Hashes of every block whose KV is here."""
        return [*self._references, *self._cached]

    def prefix_hit_blocks(self, hashes: Sequence[int]) -> int:
        """Leading blocks of a prompt that are here already."""
        hit = 0
        references, cached = self._references, self._cached
        for block in hashes:
            if block not in references and block not in cached:
                break
            hit += 1
        return hit

    def acquire(self, hit: Sequence[int], private: int) -> bool:
        """Take `hit` known blocks and `private` new ones; False, and nothing, if they do not fit.

        hit: as found by prefix_hit_blocks, just now.
        """
        references, cached = self._references, self._cached
        revived = [block for block in hit if block not in references]
        if len(revived) + private > self.available:
            return False
        for block in revived:
            del cached[block]
        for block in hit:
            references[block] = references.get(block, 0) + 1
        self._make_room(private)
        self._private += private
        return True

    def grow(self) -> bool:
        """One more private block; False if none is left."""
        return self.acquire((), 1)

    def register(self, blocks: Sequence[int]) -> None:
        """Private blocks of a request turn out, now computed, to be these full blocks.

        One that is known already is dropped for the copy that is here.
        """
        references, cached = self._references, self._cached
        for block in blocks:
            count = references.get(block)
            if count is not None:
                references[block] = count + 1
            else:
                if block in cached:
                    del cached[block]
                else:
                    self._changes.store(block)
                references[block] = 1
        self._private -= len(blocks)

    def release(self, known: Sequence[int], private: int) -> None:
        """Give a request's blocks back; known ones stay cached, last of the prompt first out."""
        self._private -= private
        references, cached = self._references, self._cached
        for block in reversed(known):
            count = references[block]
            if count == 1:
                del references[block]
                cached[block] = None
            else:
                references[block] = count - 1

    def clear(self) -> None:
        """Forget every block that nobody uses: their KV is gone."""
        for block in self._cached:
            self._changes.remove(block)
        self._cached.clear()

    def take_changes(self) -> BlocksChanged | None:
        """Which blocks came and went since the last call; None for nothing."""
        return self._changes.take()

    def check(self) -> None:
        """Raise AssertionError, with all terms, unless the books balance."""
        cached, used = len(self._cached), self.used
        terms = f"used {used} + cached {cached} of total {self.total}"
        assert self._private >= 0, terms
        assert used + cached <= self.total, terms
        assert not self._references.keys() & self._cached.keys(), terms

    def _make_room(self, blocks: int) -> None:
        cached, remove = self._cached, self._changes.remove
        for _ in range(blocks - (self.total - self.used - len(cached))):
            remove(cached.popitem(last=False)[0])
