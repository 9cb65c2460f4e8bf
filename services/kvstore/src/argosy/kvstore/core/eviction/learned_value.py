"""The value of a block, learned for its segment and its age: the time since its last request.

For each segment and span of ages (a cell) two things are counted: how often blocks in it, held or
ghosts, were requested again, and for how long they were there to be requested. Their quotient is
the hazard: the chance of a request per second. The value of a block is the most requests per
second of holding it that can be had by holding it for some time and no longer (Gittins' index,
J. C. Gittins, 1979). So a block may be held through a pause after which requests come back.

Where a class has few counts, the wider class is taken instead, scaled to the requests that were
seen: for a segment all sizes of its kind, for a kind the mean of all blocks, for a span of the
mean the span before it with a hazard that falls with 1 / age. With no counts at all this is LRU.
"""

from collections import OrderedDict
from collections.abc import Iterable
from math import exp, expm1
from typing import Any

from argosy.kvstore.core.eviction.learned_segments import KINDS, SIZES

SPANS_PER_OCTAVE = 2
"""Ages within a factor of 1.4 are counted together."""
SPANS = 28
"""Enough to tell ages from a second to hours apart: see AGES_US."""
AGE_1_US = 1_000_000
"""Where the second span begins: nobody reads an answer and goes on in less than a second."""
FALL = 2 ** (-1 / SPANS_PER_OCTAVE)
"""How the hazard falls from span to span where it falls with 1 / age."""
AGES_US = [0] + [round(AGE_1_US * 2 ** (n / SPANS_PER_OCTAVE)) for n in range(SPANS - 1)]
"""Where the spans begin. The last begins at 2.3 h; what is older stays in it."""
WIDTHS_S = [
    (end - begin) / 1e6 for begin, end in zip(AGES_US, [*AGES_US[1:], 2 * AGES_US[-1]], strict=True)
]
PRIOR_BLOCKS = 512
"""Once this many blocks have passed through a span, the counts of a class weigh more than those of
the wider class. A prompt is some dozens of blocks that come and go together: these are about ten
prompts."""
PRIOR_ASKS = 128
"""Once this many requests were expected of a class, its level is its own rather than the wider
class's: a few prompts of some dozens of blocks each."""

Curve = list[float]
"""A number for each span of ages."""


class Cell:
    """A segment in a span of ages."""

    __slots__ = (
        "asks",
        "block_s",
        "blocks",
        "chance",
        "listed",
        "queue",
        "rank",
        "since_us",
        "value",
    )

    def __init__(self) -> None:
        self.asks = 0.0
        self.block_s = 0.0
        """Seconds that blocks were in the cell, summed over blocks."""
        self.blocks = 0
        """In the cell now."""
        self.since_us = 0
        """The time up to which `block_s` is counted."""
        self.queue: OrderedDict[Any, None] = OrderedDict()
        """For the policy: runs with blocks that may be evicted, the oldest first."""
        self.value = 0.0
        self.chance = 1.0
        """The chance that a block in the cell is ever requested again."""
        self.rank = 0
        """Its place among all cells, the least value first."""
        self.listed = False
        """For the policy: whether the cell is in its heap."""

    def change(self, blocks: int, now_us: int) -> None:
        """The cell has that many more blocks (or fewer) from now on."""
        if now_us > self.since_us:
            self.block_s += self.blocks * (now_us - self.since_us) / 1e6
            self.since_us = now_us
        self.blocks += blocks


class LearnedValue:
    """`segments[kind][size][span]` is a cell."""

    def __init__(self) -> None:
        self.segments = [
            [[Cell() for _ in range(SPANS)] for _ in range(SIZES)] for _ in range(KINDS)
        ]

    def learn(self, now_us: int, fade: float) -> list[Cell]:
        """Compute all values anew. Returns all cells, the least value first.

        What was counted so far counts `fade` times as much from now on.
        """
        tallies = [[tally(cells, now_us, fade) for cells in kind] for kind in self.segments]
        kinds = [added(kind) for kind in tallies]
        mean = mean_hazard(*added(kinds))
        for segments, kind_tally, kind in zip(tallies, kinds, self.segments, strict=True):
            usual = hazard_of(kind_tally, mean)
            plain = gittins(usual), chances(usual)
            for segment_tally, cells in zip(segments, kind, strict=True):
                value, chance = plain
                if any(segment_tally[1]):
                    hazard = hazard_of(segment_tally, usual)
                    value, chance = gittins(hazard), chances(hazard)
                for span, cell in enumerate(cells):
                    cell.value, cell.chance = value[span], chance[span]
        # Of equal values the older comes first: the sort is stable. So is the order of segments.
        ordered = [
            kind[size][span]
            for span in range(SPANS - 1, -1, -1)
            for kind in self.segments
            for size in range(SIZES)
        ]
        ordered.sort(key=value_of)
        for rank, cell in enumerate(ordered):
            cell.rank = rank
        return ordered

    def in_order(self) -> list[list[Cell]]:
        """All segments, by kind and size."""
        return [cells for kind in self.segments for cells in kind]


def value_of(cell: Cell) -> float:
    """For sorting."""
    return cell.value


Tally = tuple[Curve, Curve]
"""(requests, block seconds), by span."""


def tally(cells: list[Cell], now_us: int, fade: float) -> Tally:
    """What was counted in these cells up to now; then it decays to `fade` of that."""
    for cell in cells:
        cell.change(0, now_us)
    found = [cell.asks for cell in cells], [cell.block_s for cell in cells]
    for cell in cells:
        cell.asks *= fade
        cell.block_s *= fade
    return found


def added(tallies: Iterable[Tally]) -> Tally:
    """The sum of these tallies."""
    asks, block_s = zip(*tallies, strict=True)
    return [sum(one) for one in zip(*asks, strict=True)], [
        sum(one) for one in zip(*block_s, strict=True)
    ]


def mean_hazard(asks: Curve, block_s: Curve) -> Curve:
    """The hazard of all blocks together, by span."""
    found: Curve = []
    for count, over_s, width_s in zip(asks, block_s, WIDTHS_S, strict=True):
        usual = found[-1] * FALL if found else 1.0
        prior_s = PRIOR_BLOCKS * width_s
        found.append((count + prior_s * usual) / (over_s + prior_s))
    return found


def hazard_of(seen: Tally, usual: Curve) -> Curve:
    """The hazard of a class, from its counts and the hazard of the wider class, by span."""
    asks, block_s = seen
    expected = sum(over_s * rate for over_s, rate in zip(block_s, usual, strict=True))
    level = (sum(asks) + PRIOR_ASKS) / (expected + PRIOR_ASKS)
    return [
        (count + PRIOR_BLOCKS * width_s * rate * level) / (over_s + PRIOR_BLOCKS * width_s)
        for count, over_s, width_s, rate in zip(asks, block_s, WIDTHS_S, usual, strict=True)
    ]


def gittins(hazard: Curve) -> Curve:
    """The value at each span: the greatest (chance of a request) / (mean time held for it), over
    all ages at which to give up.

    From the last span backwards: a span is joined to those after it while that raises the quotient.
    """
    index: Curve = []
    joined: list[tuple[float, float]] = []
    """(chance, time in seconds) of a block that enters these spans; the nearest spans last."""
    for rate, width_s in zip(reversed(hazard), reversed(WIDTHS_S), strict=True):
        chance = -expm1(-rate * width_s)
        time_s = chance / rate
        while joined and joined[-1][0] * time_s > chance * joined[-1][1]:
            later, later_s = joined.pop()
            time_s += (1 - chance) * later_s
            chance += (1 - chance) * later
        joined.append((chance, time_s))
        index.append(chance / time_s)
    index.reverse()
    return index


def chances(hazard: Curve) -> Curve:
    """At each span, the chance of a request at that age or later."""
    found: Curve = []
    unasked = 1.0
    for rate, width_s in zip(reversed(hazard), reversed(WIDTHS_S), strict=True):
        unasked *= exp(-rate * width_s)
        found.append(1 - unasked)
    found.reverse()
    return found
