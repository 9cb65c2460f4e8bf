"""Which blocks a tier holds, how they continue each other, and which of them may be evicted.

Blocks of a prompt form a chain, and chains that begin alike share their beginnings: a
forest. A block without its prefix is useless, so only leaves may be evicted: held blocks without
held children. Pinned blocks may not; so to pin the last block of a chain keeps all of the chain.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from argosy.kvstore.core.eviction.policy import EvictionPolicy, Key


class ChainBlock:
    """A block that is held, or that held blocks continue (its own bytes were lost), or both."""

    __slots__ = ("children", "held", "key", "parent")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.parent: ChainBlock | None = None
        self.children = 0
        """How many held blocks continue it."""
        self.held = False


class ChainPolicy(EvictionPolicy):
    """The books of every policy. A policy adds what it does when a block is `_freed`."""

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self._blocks: dict[Key, ChainBlock] = {}
        self._pins: dict[Key, int] = {}

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """See EvictionPolicy. Says nothing of what is held."""

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """See EvictionPolicy."""
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
        """See EvictionPolicy."""
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
        """See EvictionPolicy."""
        self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: Key) -> None:
        """See EvictionPolicy."""
        pins = self._pins.pop(key, 0) - 1
        if pins > 0:
            self._pins[key] = pins
        elif self._may_go(key):
            self._freed(key)

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """See EvictionPolicy. Every block is worth it where a policy does not know better."""
        return True

    def _held(self, key: Key) -> bool:
        block = self._blocks.get(key)
        return block is not None and block.held

    def chains_to_plain(self) -> dict[str, Any]:
        """The blocks and their pins, as plain data."""
        return {
            "capacity": self.capacity_blocks,
            "blocks": [
                (block.key, block.parent.key if block.parent is not None else None, block.held)
                for block in self._blocks.values()
            ],
            "pins": list(self._pins.items()),
        }

    def chains_from_plain(self, plain: dict[str, Any]) -> None:
        """Take in what `chains_to_plain` gave. `_freed` is not called."""
        for key, _, held in plain["blocks"]:
            block = self._blocks[key] = ChainBlock(key)
            block.held = held
        for key, parent, held in plain["blocks"]:
            if parent is not None:
                self._blocks[key].parent = self._blocks[parent]
                self._blocks[parent].children += held
        self._pins = dict(plain["pins"])

    def _may_go(self, key: Key) -> bool:
        block = self._blocks.get(key)
        return block is not None and block.held and not block.children and key not in self._pins

    @abstractmethod
    def _freed(self, key: Key) -> None:
        """The block may be evicted from now on.

        That ends when it is pinned or continued, of which a policy is not told: ask `_may_go`.
        """
