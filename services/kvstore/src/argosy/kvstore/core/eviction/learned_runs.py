"""Runs of blocks: what is known of blocks is kept once for all that are requested together."""

from argosy.kvstore.core.eviction.learned_value import Cell
from argosy.kvstore.core.eviction.policy import Key


class BlockRun:
    """Neighbours in a chain, last requested together and requested equally often."""

    __slots__ = ("asked_us", "asks", "blocks", "cells", "free", "span")

    def __init__(self, cells: list[Cell], asks: int, asked_us: int) -> None:
        self.cells = cells
        """The cells of its segment, by span of ages."""
        self.asks = asks
        self.asked_us = asked_us
        self.span = 0
        self.blocks = 0
        """How many there are, held ones and ghosts."""
        self.free: dict[Key, None] = {}
        """Those that might be evicted when they were put here; the deepest last."""
