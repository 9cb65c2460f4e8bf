"""What a block is worth by its segment and the time since it was last asked for, learned.

For each segment and span of ages: how often blocks there were asked for again (held or
ghosts alike), over how long they were there to be asked for. That gives the chance of an
ask per second, the hazard. The worth of a block at some age is the most asks per second
of room that can be had by keeping it for some time more and no longer: Gittins' index,
the best rule for who leaves when gains come at different times.

A segment that has shown little is taken for the mean of all; when that has shown little
either, the hazard is 1 / age, whatever the segment: the longer unasked the less worth,
which is LRU.
"""

from collections import OrderedDict
from typing import Any

AGE_0_US = 1_000_000
SPANS_PER_OCTAVE = 2
SPANS = 28
"""The last one begins at 3.2 h and has no end."""
PRIOR_ASKS = 64
PRIOR_BLOCKS = 256
"""A segment's own evidence outweighs the mean once so many blocks passed through a span."""

FALL = 2 ** (-1 / SPANS_PER_OCTAVE)

AGES_US = [0] + [round(AGE_0_US * 2 ** (n / SPANS_PER_OCTAVE)) for n in range(SPANS - 1)]
"""Where the spans begin."""
WIDTHS_S = [
    (end - begin) / 1e6
    for begin, end in zip(AGES_US, [*AGES_US[1:], 2 * AGES_US[-1]], strict=True)
]


class Cell:
    """A segment in a span of ages."""

    __slots__ = ("asks", "block_s", "blocks", "since_us", "span")

    def __init__(self, span: int) -> None:
        self.span = span
        self.asks = 0.0
        self.block_s = 0.0
        """Time that blocks were here, times blocks."""
        self.blocks = 0
        """Here now."""
        self.since_us = 0
        """`block_s` is counted until then."""

    def change(self, blocks: int, now_us: int) -> None:
        """So many more (or less) are here from now on."""
        if now_us > self.since_us:
            self.block_s += self.blocks * (now_us - self.since_us) / 1e6
            self.since_us = now_us
        self.blocks += blocks


class Segment:
    """One class of blocks, within a wider one. Only the narrowest have cells of their own."""

    def __init__(self, parent: "Segment | None") -> None:
        self.parent = parent
        self.cells = [Cell(span) for span in range(SPANS)]
        self.queues: list[OrderedDict[Any, None]] = [OrderedDict() for _ in range(SPANS)]
        self.index = [0.0] * SPANS
        self.rank = [0] * SPANS
        self.asks: list[float] = []
        self.block_s: list[float] = []
        self.hazard: list[float] = []


class Worth:
    def __init__(self) -> None:
        self.top = Segment(None)
        self.levels: list[dict[tuple[int, ...], Segment]] = []

    def segment(self, path: tuple[int, ...]) -> Segment:
        parent = self.top
        for depth in range(1, len(path) + 1):
            if len(self.levels) < depth:
                self.levels.append({})
            level = self.levels[depth - 1]
            seg = level.get(path[:depth])
            if seg is None:
                seg = level[path[:depth]] = Segment(parent)
            parent = seg
        return parent

    def learn(self, now_us: int, fade: float) -> None:
        every = [seg for level in self.levels for seg in level.values()]
        for seg in [self.top, *every]:
            for cell in seg.cells:
                cell.change(0, now_us)
            seg.asks = [cell.asks for cell in seg.cells]
            seg.block_s = [cell.block_s for cell in seg.cells]
            for cell in seg.cells:
                cell.asks *= fade
                cell.block_s *= fade
        for seg in reversed(every):
            up = seg.parent
            up.asks = [a + b for a, b in zip(up.asks, seg.asks)]
            up.block_s = [a + b for a, b in zip(up.block_s, seg.block_s)]
        mean: list[float] = []
        for asks, block_s, width in zip(self.top.asks, self.top.block_s, WIDTHS_S):
            prior = mean[-1] * FALL if mean else 1e6 / AGE_0_US
            mean.append((asks + PRIOR_BLOCKS * width * prior) / (block_s + PRIOR_BLOCKS * width))
        self.top.hazard = mean
        for seg in every:
            prior = seg.parent.hazard
            expected = sum(a * b for a, b in zip(seg.block_s, prior, strict=True))
            factor = (sum(seg.asks) + PRIOR_ASKS) / (expected + PRIOR_ASKS)
            seg.hazard = [
                (asks + PRIOR_BLOCKS * width * usual * factor) / (block_s + PRIOR_BLOCKS * width)
                for asks, block_s, width, usual in zip(seg.asks, seg.block_s, WIDTHS_S, prior)
            ]
            seg.index = gittins(seg.hazard)


def gittins(hazard: list[float]) -> list[float]:
    """The most of (chance of an ask) / (mean time until it or the end), over all ends.

    From the last span backwards: a span is taken together with those after it for as long
    as that raises its worth.
    """
    index = [0.0] * len(hazard)
    later: list[tuple[float, float]] = []
    """Spans taken together: (chance of an ask, mean time in them, of who comes to them)."""
    for span in range(len(hazard) - 1, -1, -1):
        width, rate = WIDTHS_S[span], hazard[span]
        stays = 2.718281828459045 ** (-rate * width)
        chance = 1 - stays
        time_s = chance / rate if rate * width > 1e-9 else width
        while later and later[-1][0] * time_s > chance * later[-1][1]:
            more, longer_s = later.pop()
            chance, time_s = chance + (1 - chance) * more, time_s + (1 - chance) * longer_s
        later.append((chance, time_s))
        index[span] = chance / time_s
    return index
