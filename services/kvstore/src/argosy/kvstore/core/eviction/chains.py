"""Which blocks are held, how they hang together, and which of them may go.

Blocks of a prompt form a chain, and chains that begin alike share their beginnings: a
forest. A block without its prefix is useless, so only leaves may go: held blocks without
held children. Nor may pinned ones; pinning the last block of a chain thus keeps all of it.
"""

import heapq
from collections.abc import Sequence
from typing import Any

Key = bytes | int
"""Opaque: a hash, or a number."""


class ChainBlock:
    """A block that is held, or has held children (its own bytes were lost), or both."""

    __slots__ = ("children", "held", "key", "parent")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.parent: ChainBlock | None = None
        self.children = 0
        """Held ones."""
        self.held = False


class Chains:
    """The bookkeeping of every policy. A policy says what to do when a block is `_freed`."""

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self._blocks: dict[Key, ChainBlock] = {}
        self._pins: dict[Key, int] = {}

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """A prompt asked for these blocks, root first, whether they are held or not."""

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """Held from now on."""
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = ChainBlock(key)
        elif block.held:
            return
        block.held = True
        if parent is not None:
            above = self._blocks.get(parent)
            if above is None:
                above = self._blocks[parent] = ChainBlock(parent)
            above.children += 1
            block.parent = above
        if not block.children and key not in self._pins:
            self._freed(key)

    def removed(self, key: Key) -> None:
        """No longer held: evicted or lost."""
        block = self._blocks.get(key)
        if block is None or not block.held:
            return
        block.held = False
        if not block.children:
            del self._blocks[key]
        above, block.parent = block.parent, None
        if above is not None:
            above.children -= 1
            if not above.children:
                if not above.held:
                    del self._blocks[above.key]
                elif above.key not in self._pins:
                    self._freed(above.key)

    def pin(self, key: Key) -> None:
        """In use once more."""
        self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: Key) -> None:
        """In use once less."""
        pins = self._pins.pop(key, 0) - 1
        if pins > 0:
            self._pins[key] = pins
        elif self._may_go(key):
            self._freed(key)

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """Whether to keep it on a slower tier when this one lets it go."""
        return True

    def _held(self, key: Key) -> bool:
        block = self._blocks.get(key)
        return block is not None and block.held

    def chains_snapshot(self) -> dict[str, Any]:
        """What hangs together, as plain data."""
        return {
            "capacity": self.capacity_blocks,
            "blocks": [
                (block.key, block.parent.key if block.parent is not None else None, block.held)
                for block in self._blocks.values()
            ],
            "pins": list(self._pins.items()),
        }

    def restore_chains(self, snapshot: dict[str, Any]) -> None:
        """As it was; of who may go nothing is said."""
        for key, _, held in snapshot["blocks"]:
            block = self._blocks[key] = ChainBlock(key)
            block.held = held
        for key, parent, held in snapshot["blocks"]:
            if parent is not None:
                self._blocks[key].parent = self._blocks[parent]
                self._blocks[parent].children += held
        self._pins = dict(snapshot["pins"])

    def _may_go(self, key: Key) -> bool:
        block = self._blocks.get(key)
        return block is not None and block.held and not block.children and key not in self._pins

    def _freed(self, key: Key) -> None:
        """It may go from now on; until it is pinned or gets a child, of which nothing is said."""
        raise NotImplementedError


class Ranked(Chains):
    """Policies whose rank of a block changes only when it is asked for: the least goes first."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._heap: list[tuple[tuple[int, ...], int, Key]] = []
        """(rank, sequence, key). Outdated entries are found out when they come up."""
        self._entries = 0

    def victim(self, now_us: int) -> Key | None:
        """The block that may go with the least rank."""
        heap = self._heap
        while heap:
            rank, _, key = heap[0]
            if self._may_go(key) and rank == self._rank(key):
                return key
            heapq.heappop(heap)
        return None

    def _rank(self, key: Key) -> tuple[int, ...]:
        raise NotImplementedError

    def _freed(self, key: Key) -> None:
        self._entries += 1
        heapq.heappush(self._heap, (self._rank(key), self._entries, key))
        if len(self._heap) > 2 * len(self._blocks) + 64:
            self._rebuild()

    def _asked_again(self, chain: Sequence[Key]) -> None:
        """Ranks of these have changed."""
        for key in chain:
            if self._may_go(key):
                self._freed(key)

    def _rebuild(self) -> None:
        free = [key for key in self._blocks if self._may_go(key)]
        self._heap = [(self._rank(key), number, key) for number, key in enumerate(free)]
        heapq.heapify(self._heap)
        self._entries = len(free)
