"""Evicts the block of the least value, as learned from blocks like it.

Blocks are sorted into segments of the workload (learned_segments.py), and the policy learns for
each segment how likely a block is to be requested again at each age (learned_value.py). For that
it remembers blocks that were requested recently, held or not (those not held are ghosts), as runs
(learned_runs.py): neighbours in a chain that were last requested together, and equally often. When
a run is requested again, or grows older without, that is counted for its segment at its age. The
victim is the deepest block of the run of the least value.

Where only the age of the last request matters, the value falls with age, alike in all segments:
the policy is then LRU. Where only the number of requests matters, the value hardly falls and is
the higher the more requests there were: LFU. What was learned decays with a half-life in requests,
so a new kind of load is learned anew. No setting chooses between these.
"""

from collections import OrderedDict
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Self

from argosy.kvstore.core.eviction.chains import ChainPolicy
from argosy.kvstore.core.eviction.learned_runs import BlockRun
from argosy.kvstore.core.eviction.learned_segments import kind_of, size_of
from argosy.kvstore.core.eviction.learned_value import AGES_US, SPANS, Cell, LearnedValue
from argosy.kvstore.core.eviction.policy import Key

GHOSTS_PER_BLOCK = 2
"""Blocks are remembered for twice as long as LRU would hold them: a policy that may hold some
longer than LRU has to see whether they come back."""
GHOSTS_MIN = 65_536
"""A small store evicts within seconds, while people think for minutes before the next turn of a
conversation: with as few ghosts as it has blocks it would see no block come back."""
HALF_LIFE_ASKS = 4000
"""Half a day of a store with a prompt every ten seconds, or seven minutes at ten a second: long
enough for hundreds of requests in each common segment, short enough to follow the time of day."""
LEARN_EVERY_ASKS = 256
"""Learning sorts all cells, which takes milliseconds: so it costs some 10 µs for each request."""
LEARN_FIRST_ASKS = 16
"""The first time to learn; then after twice as many requests, up to every LEARN_EVERY_ASKS."""
KEEP_CHANCE = 0.03
"""A block goes to SSD if at least one in thirty like it is requested again: a write then pays as
long as it costs less than a thirtieth of computing the block anew."""


class LearnedPolicy(ChainPolicy):
    """Remembers the greater of GHOSTS_MIN and GHOSTS_PER_BLOCK times the capacity as ghosts."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self.ghosts_max = max(GHOSTS_MIN, GHOSTS_PER_BLOCK * capacity_blocks)
        self._runs: dict[Key, BlockRun] = {}
        """The run of each held block and of each ghost."""
        self._ghosts: OrderedDict[Key, None] = OrderedDict()
        self._ages: list[OrderedDict[BlockRun, None]] = [OrderedDict() for _ in range(SPANS)]
        """Runs by span of ages, the one requested the longest ago first."""
        self._aged_us = 0
        self._value = LearnedValue()
        self._order = self._value.learn(0, 1.0)
        self._heap: list[int] = []
        """Ranks of the cells with blocks that may be evicted, and of some that had such blocks."""
        self._asks = 0
        self._learn_at = LEARN_FIRST_ASKS
        self._learned_at = 0

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """See EvictionPolicy. Counts the request, and makes new runs of the chain's blocks.

        A chain has no block twice.
        """
        self._age(now_us)
        self._asks += 1
        if self._asks >= self._learn_at:
            self._learn(now_us)
        runs, total = self._runs, len(chain)
        known = 0
        while known < total and chain[known] in runs:
            known += 1
        size = size_of(total - known)
        begin, asks, run = 0, 0, None
        while begin < total:
            old = runs.get(chain[begin])
            end = begin + 1
            # The end of a prompt is a segment by itself when it is new.
            limit = total if old is not None or end == total else total - 1
            while end < limit and runs.get(chain[end]) is old:
                end += 1
            asks_above, asks = asks, (old.asks + 1 if old is not None else 1)
            kind = kind_of(asks, asks_above, is_end=end == total)
            cells = self._value.segments[kind][size]
            if run is None or run.cells is not cells or run.asks != asks:
                if run is not None:
                    self._begin(run, now_us)
                run = BlockRun(cells, asks, now_us)
            self._move(chain[begin:end], old, run, now_us)
            begin = end
        if run is not None:
            self._begin(run, now_us)
        self._forget(now_us)

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """See EvictionPolicy. A block that nobody requested counts as requested once, now."""
        if self._ghosts.pop(key, self) is self and key not in self._runs:
            self._age(now_us)
            kind = kind_of(1, 1 if parent is not None else 0, is_end=True)
            run = BlockRun(self._value.segments[kind][size_of(1)], 1, now_us)
            run.blocks = 1
            self._runs[key] = run
            self._begin(run, now_us)
        super().stored(key, parent, now_us)

    def removed(self, key: Key) -> None:
        """See EvictionPolicy. The block becomes a ghost."""
        if self._held(key):
            run = self._runs[key]
            if key in run.free:
                self._unfree(run, key)
            self._ghosts[key] = None
        super().removed(key)

    def victim(self, now_us: int) -> Key | None:
        """See EvictionPolicy: the deepest block of the oldest run of the cell of least value."""
        self._age(now_us)
        heap, order = self._heap, self._order
        while heap:
            cell = order[heap[0]]
            while cell.queue:
                run: BlockRun = next(iter(cell.queue))
                key = next(reversed(run.free))
                if self._may_go(key):
                    return key
                self._unfree(run, key)
            heappop(heap)
            cell.listed = False
        return None

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """See EvictionPolicy: blocks that are requested again with KEEP_CHANCE or more."""
        self._age(now_us)
        run = self._runs.get(key)
        return run is not None and run.cells[run.span].chance >= KEEP_CHANCE

    def to_plain(self) -> dict[str, Any]:
        """See EvictionPolicy. A run is named by its place in `runs`."""
        runs = [run for age in self._ages for run in age]
        number = {run: n for n, run in enumerate(runs)}
        segments = self._value.in_order()
        segment = {id(cells): n for n, cells in enumerate(segments)}
        return {
            **self.chains_to_plain(),
            "runs": [
                (segment[id(r.cells)], r.asks, r.asked_us, r.span, r.blocks, list(r.free))
                for r in runs
            ],
            "keys": [(key, number[run]) for key, run in self._runs.items()],
            "ghosts": list(self._ghosts),
            "cells": [
                (
                    cell.asks,
                    cell.block_s,
                    cell.blocks,
                    cell.since_us,
                    cell.value,
                    cell.chance,
                    cell.rank,
                    cell.listed,
                    [number[run] for run in cell.queue],
                )
                for cells in segments
                for cell in cells
            ],
            "heap": self._heap,
            "clocks": (self._aged_us, self._asks, self._learn_at, self._learned_at),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """See EvictionPolicy."""
        made = cls(plain["capacity"])
        made.chains_from_plain(plain)
        segments = made._value.in_order()
        runs = []
        for segment, asks, asked_us, span, blocks, free in plain["runs"]:
            run = BlockRun(segments[segment], asks, asked_us)
            run.span, run.blocks, run.free = span, blocks, dict.fromkeys(free)
            runs.append(run)
            made._ages[span][run] = None
        made._runs = {key: runs[number] for key, number in plain["keys"]}
        made._ghosts = OrderedDict.fromkeys(plain["ghosts"])
        cells = [cell for segment_cells in segments for cell in segment_cells]
        for cell, seen in zip(cells, plain["cells"], strict=True):
            cell.asks, cell.block_s, cell.blocks, cell.since_us, *rest, queue = seen
            cell.value, cell.chance, cell.rank, cell.listed = rest
            cell.queue = OrderedDict.fromkeys(runs[number] for number in queue)
        made._order = sorted(cells, key=rank_of)
        made._heap = list(plain["heap"])
        made._aged_us, made._asks, made._learn_at, made._learned_at = plain["clocks"]
        return made

    def _learn(self, now_us: int) -> None:
        since = self._asks - self._learned_at
        self._order = self._value.learn(now_us, 0.5 ** (since / HALF_LIFE_ASKS))
        self._heap = []
        for rank, cell in enumerate(self._order):
            cell.listed = bool(cell.queue)
            if cell.listed:
                self._heap.append(rank)
        self._learned_at = self._asks
        self._learn_at = self._asks + min(self._asks, LEARN_EVERY_ASKS)

    def _move(self, keys: Sequence[Key], old: BlockRun | None, new: BlockRun, now_us: int) -> None:
        """Blocks of the old run, or unknown ones, were requested: they are the new run's."""
        new.blocks += len(keys)
        runs, ghosts = self._runs, self._ghosts
        if old is None:
            for key in keys:
                runs[key] = new
                ghosts[key] = None
            return
        old.cells[old.span].asks += len(keys)
        self._leave(old, len(keys), now_us)
        free = old.free
        for key in keys:
            runs[key] = new
            if key in free:
                self._unfree(old, key)
                new.free[key] = None
            elif key in ghosts:
                ghosts.move_to_end(key)

    def _begin(self, run: BlockRun, now_us: int) -> None:
        """The run has all of its blocks."""
        self._ages[0][run] = None
        run.cells[0].change(run.blocks, now_us)
        if run.free:
            self._enqueue(run)

    def _leave(self, run: BlockRun, blocks: int, now_us: int) -> None:
        run.cells[run.span].change(-blocks, now_us)
        run.blocks -= blocks
        if not run.blocks:
            del self._ages[run.span][run]

    def _age(self, now_us: int) -> None:
        """Move runs that are old enough on to the next span of ages."""
        if now_us <= self._aged_us:
            return
        self._aged_us = now_us
        for span in range(SPANS - 1):
            here = self._ages[span]
            due_us = now_us - AGES_US[span + 1]
            while here:
                run = next(iter(here))
                if run.asked_us > due_us:
                    break
                del here[run]
                self._ages[span + 1][run] = None
                run.span = span + 1
                run.cells[span].change(-run.blocks, now_us)
                run.cells[span + 1].change(run.blocks, now_us)
                if run.free:
                    del run.cells[span].queue[run]
                    self._enqueue(run)

    def _forget(self, now_us: int) -> None:
        """Forget the oldest ghosts beyond ghosts_max."""
        while len(self._ghosts) > self.ghosts_max:
            key, _ = self._ghosts.popitem(last=False)
            self._leave(self._runs.pop(key), 1, now_us)

    def _freed(self, key: Key) -> None:
        run = self._runs[key]
        run.free[key] = None
        self._enqueue(run)

    def _enqueue(self, run: BlockRun) -> None:
        cell = run.cells[run.span]
        cell.queue[run] = None
        if not cell.listed:
            cell.listed = True
            heappush(self._heap, cell.rank)

    def _unfree(self, run: BlockRun, key: Key) -> None:
        del run.free[key]
        if not run.free:
            del run.cells[run.span].queue[run]


def rank_of(cell: Cell) -> int:
    """For sorting."""
    return cell.rank
