"""lab version"""

from collections import OrderedDict
from collections.abc import Sequence

from argosy.kvstore.core.eviction import worth as W
from argosy.kvstore.core.eviction.chains import Chains, Key
from argosy.kvstore.core.eviction.worth import AGES_US, SPANS, Worth

GHOSTS_PER_BLOCK = 2
GHOSTS_MIN = 65536
LEARN_EVERY_ASKS = 32
HALF_LIFE_ASKS = 4000


class Run:
    """Neighbours in a chain that were last asked for together, and as often."""

    __slots__ = ("asked_us", "asks", "blocks", "cell", "free", "segment", "span", "lastgap")

    def __init__(self, segment: int, asks: int, asked_us: int) -> None:
        self.segment = segment
        self.asks = asks
        self.asked_us = asked_us
        self.blocks = 0
        self.span = 0
        self.free: dict[Key, None] = {}
        self.lastgap = 0


def bucket(n):
    return min(4, (n - 1).bit_length()) if n > 0 else 0


SPLIT_END = True


def segment_of(asks, above, length, new, gap, known, i):
    if asks == 1:
        return (5 + bucket(above),)
    return (bucket(asks),)


class Argosy(Chains):
    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._seen: dict[Key, Run] = {}
        self._ghosts: OrderedDict[Key, None] = OrderedDict()
        self._ghosts_max = max(GHOSTS_MIN, GHOSTS_PER_BLOCK * capacity_blocks)
        self._worth = Worth()
        self._known = 0
        self._spans = [OrderedDict() for _ in range(SPANS)]
        self._asks = 0
        self._rank()

    def _rank(self):
        leaves = list(self._worth.levels[-1].values()) if self._worth.levels else []
        order = sorted((seg.index[b], -b, n) for n, seg in enumerate(leaves) for b in range(SPANS))
        self._order = []
        for r, (_, b, n) in enumerate(order):
            leaves[n].rank[-b] = r
            self._order.append(leaves[n].queues[-b])
        self._known = len(leaves)
        self._cursor = 0

    def _segment(self, path, now_us):
        seg = self._worth.segment(path)
        if len(self._worth.levels[-1]) > self._known:
            self._worth.learn(now_us, 1.0)
            self._rank()
        return seg

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        self._age(now_us)
        self._asks += 1
        if self._asks % LEARN_EVERY_ASKS == 0:
            self._worth.learn(now_us, 0.5 ** (LEARN_EVERY_ASKS / HALF_LIFE_ASKS))
            self._rank()
        seen, ghosts = self._seen, self._ghosts
        total = len(chain)
        above = 0
        i = 0
        new = None
        spans0 = self._spans[0]
        known = 0
        while known < total and chain[known] in seen:
            known += 1
        fresh = total - known
        while i < total:
            old = seen.get(chain[i])
            j = i + 1
            if old is None:
                while j < total - 1 and chain[j] not in seen:
                    j += 1
                asks = 1
                gap = 0
                if j == total - 1 and not SPLIT_END and chain[j] not in seen:
                    j = total
            else:
                while j < total and seen.get(chain[j]) is old:
                    j += 1
                asks = old.asks + 1
                gap = now_us - old.asked_us
                self._leave(old, j - i, now_us, 1)
            seg = self._segment(segment_of(asks, above, total, fresh, gap, known, i), now_us)
            if new is None or new.segment is not seg or new.asks != asks:
                if new is not None:
                    self._enter(new, now_us)
                new = Run(seg, asks, now_us)
            new.blocks += j - i
            for key in chain[i:j]:
                seen[key] = new
                if old is not None and key in old.free:
                    del old.free[key]
                    if not old.free:
                        old.segment.queues[old.span].pop(old, None)
                    new.free[key] = None
                elif key in ghosts:
                    ghosts.move_to_end(key)
                elif old is None and key not in self._blocks:
                    ghosts[key] = None
            above = asks
            i = j
        if new is not None:
            self._enter(new, now_us)
        while len(ghosts) > self._ghosts_max:
            key, _ = ghosts.popitem(last=False)
            run = seen.pop(key)
            self._leave(run, 1, now_us, 0)

    def _enter(self, run, now_us):
        self._spans[0][run] = None
        run.segment.cells[0].change(run.blocks, now_us)
        if run.free:
            self._queue(run)

    def _queue(self, run):
        run.segment.queues[run.span][run] = None
        r = run.segment.rank[run.span]
        if r < self._cursor:
            self._cursor = r

    def _leave(self, run, blocks, now_us, asked):
        cell = run.segment.cells[run.span]
        cell.change(-blocks, now_us)
        if asked:
            cell.asks += blocks
        run.blocks -= blocks
        if not run.blocks:
            self._spans[run.span].pop(run)

    def _age(self, now_us):
        for b in range(SPANS - 1):
            q = self._spans[b]
            due = now_us - AGES_US[b + 1]
            while q:
                run = next(iter(q))
                if run.asked_us > due:
                    break
                del q[run]
                cells = run.segment.cells
                cells[b].change(-run.blocks, now_us)
                cells[b + 1].change(run.blocks, now_us)
                run.span = b + 1
                self._spans[b + 1][run] = None
                if run.free:
                    del run.segment.queues[b][run]
                    self._queue(run)

    def stored(self, key, parent, now_us):
        self._ghosts.pop(key, None)
        if key not in self._seen:
            run = Run(self._segment(segment_of(1, 0, 1, 1, 0, 0, 0), now_us), 0, now_us)
            run.blocks = 1
            self._seen[key] = run
            self._enter(run, now_us)
        super().stored(key, parent, now_us)

    def removed(self, key):
        super().removed(key)
        run = self._seen.get(key)
        if run is None or key in self._ghosts:
            return
        self._unfree(run, key)
        self._ghosts[key] = None

    def _unfree(self, run, key):
        if key in run.free:
            del run.free[key]
            if not run.free:
                run.segment.queues[run.span].pop(run, None)

    def _freed(self, key):
        run = self._seen[key]
        first = not run.free
        run.free[key] = None
        if first:
            self._queue(run)

    def victim(self, now_us):
        self._age(now_us)
        order = self._order
        n = self._cursor
        while n < len(order):
            q = order[n]
            while q:
                run = next(iter(q))
                while run.free:
                    key = next(reversed(run.free))
                    if self._may_go(key):
                        self._cursor = n
                        return key
                    del run.free[key]
                q.pop(run)
            n += 1
            self._cursor = n
        return None
