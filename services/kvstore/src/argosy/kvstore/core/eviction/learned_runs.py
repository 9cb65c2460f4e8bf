"""Runs: what is known of blocks is kept for many together, since they are asked for together."""

from argosy.kvstore.core.eviction.chains import Key
from argosy.kvstore.core.eviction.learned_value import Cell


class BlockRun:
    """Neighbours in a chain, as far as they are still remembered by their last ask."""

    __slots__ = ("asked_us", "asks", "blocks", "cells", "free", "span")

    def __init__(self, cells: list[Cell], asks: int, asked_us: int) -> None:
        self.cells = cells
        """Of its segment."""
        self.asks = asks
        self.asked_us = asked_us
        self.span = 0
        self.blocks = 0
        """Held ones and ghosts."""
        self.free: dict[Key, None] = {}
        """Those that may go (or might, when they were put here); the deepest last."""
