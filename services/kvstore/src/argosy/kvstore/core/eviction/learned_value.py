"""What a block is worth, by its segment and the time since it was last asked for: learned.

Counted for each segment and span of ages: how often its blocks, held or ghosts, were
asked for again, and for how long they were there to be asked for. One over the other is
the hazard, the chance of an ask per second. The worth of a block is the most asks per
second of room that can be had by keeping it for some time yet and no longer (Gittins'
index): so a block may outlive a pause in which nobody comes back so soon.

Who has shown little is taken for the wider class it is in, scaled to the asks it did
have: a segment for all sizes of its kind, a kind for the mean of all blocks, a span of the
mean for the span before it with 1 / age. Knowing nothing, this is LRU.
"""

from collections import OrderedDict
from collections.abc import Iterable
from math import exp, expm1
from typing import Any

from argosy.kvstore.core.eviction.learned_segments import KINDS, SIZES

SPANS_PER_OCTAVE = 2
SPANS = 28
AGE_1_US = 1_000_000
FALL = 2 ** (-1 / SPANS_PER_OCTAVE)
AGES_US = [0] + [round(AGE_1_US * 2 ** (n / SPANS_PER_OCTAVE)) for n in range(SPANS - 1)]
"""Where the spans begin. The last begins at 2.3 h; what is older stays in it."""
WIDTHS_S = [
    (end - begin) / 1e6 for begin, end in zip(AGES_US, [*AGES_US[1:], 2 * AGES_US[-1]], strict=True)
]
PRIOR_BLOCKS = 512
"""Own evidence outweighs the wider class's once so many blocks have passed through a span."""
PRIOR_ASKS = 128
"""A class's level is its own rather than the wider one's once so many asks were expected."""

Curve = list[float]
"""A number for each span."""


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
        "worth",
    )

    def __init__(self) -> None:
        self.asks = 0.0
        self.block_s = 0.0
        """Seconds that blocks were here, summed over blocks."""
        self.blocks = 0
        """Here now."""
        self.since_us = 0
        """Until when `block_s` is counted."""
        self.queue: OrderedDict[Any, None] = OrderedDict()
        """For the policy: who here may go, the longest unasked first."""
        self.worth = 0.0
        self.chance = 1.0
        """Of ever being asked for again."""
        self.rank = 0
        """Place among all cells by worth."""
        self.listed = False
        """For the policy: whether it knows that the queue is worth a look."""

    def change(self, blocks: int, now_us: int) -> None:
        """So many more (or fewer) are here from now on."""
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
        """Compute the worth anew. Returns all cells, the least worth first.

        What was seen so far counts `fade` times as much from now on.
        """
        tallies = [[tally(cells, now_us, fade) for cells in kind] for kind in self.segments]
        kinds = [added(kind) for kind in tallies]
        mean = mean_hazard(*added(kinds))
        for segments, kind_tally, kind in zip(tallies, kinds, self.segments, strict=True):
            usual = hazard_of(kind_tally, mean)
            plain = gittins(usual), chances(usual)
            for segment_tally, cells in zip(segments, kind, strict=True):
                worth, chance = plain
                if any(segment_tally[1]):
                    hazard = hazard_of(segment_tally, usual)
                    worth, chance = gittins(hazard), chances(hazard)
                for span, cell in enumerate(cells):
                    cell.worth, cell.chance = worth[span], chance[span]
        # Of equal worth, the older first; sorting keeps the order of segments besides.
        ordered = [
            kind[size][span]
            for span in range(SPANS - 1, -1, -1)
            for kind in self.segments
            for size in range(SIZES)
        ]
        ordered.sort(key=worth_of)
        for rank, cell in enumerate(ordered):
            cell.rank = rank
        return ordered

    def in_order(self) -> list[list[Cell]]:
        """All segments, by kind and size."""
        return [cells for kind in self.segments for cells in kind]


def worth_of(cell: Cell) -> float:
    """For sorting."""
    return cell.worth


Tally = tuple[Curve, Curve]
"""(asks, block seconds)."""


def tally(cells: list[Cell], now_us: int, fade: float) -> Tally:
    """What was counted up to now; it fades once read."""
    for cell in cells:
        cell.change(0, now_us)
    found = [cell.asks for cell in cells], [cell.block_s for cell in cells]
    for cell in cells:
        cell.asks *= fade
        cell.block_s *= fade
    return found


def added(tallies: Iterable[Tally]) -> Tally:
    """Their sum."""
    asks, block_s = zip(*tallies, strict=True)
    return [sum(one) for one in zip(*asks, strict=True)], [
        sum(one) for one in zip(*block_s, strict=True)
    ]


def mean_hazard(asks: Curve, block_s: Curve) -> Curve:
    """Of all blocks together."""
    found: Curve = []
    for count, over_s, width_s in zip(asks, block_s, WIDTHS_S, strict=True):
        usual = found[-1] * FALL if found else 1.0
        prior_s = PRIOR_BLOCKS * width_s
        found.append((count + prior_s * usual) / (over_s + prior_s))
    return found


def hazard_of(seen: Tally, usual: Curve) -> Curve:
    """Of a class, from what was seen of it and what is usual in the wider one."""
    asks, block_s = seen
    expected = sum(over_s * rate for over_s, rate in zip(block_s, usual, strict=True))
    level = (sum(asks) + PRIOR_ASKS) / (expected + PRIOR_ASKS)
    return [
        (count + PRIOR_BLOCKS * width_s * rate * level) / (over_s + PRIOR_BLOCKS * width_s)
        for count, over_s, width_s, rate in zip(asks, block_s, WIDTHS_S, usual, strict=True)
    ]


def gittins(hazard: Curve) -> Curve:
    """At each span, the most of (chance of an ask) / (mean time until it or the end kept to).

    From the last span backwards: a span is joined to those after it while that pays.
    """
    index: Curve = []
    joined: list[tuple[float, float]] = []
    """(chance, time in seconds) of who enters; the nearest last."""
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
    """At each span, of being asked for from then on."""
    found: Curve = []
    unasked = 1.0
    for rate, width_s in zip(reversed(hazard), reversed(WIDTHS_S), strict=True):
        unasked *= exp(-rate * width_s)
        found.append(1 - unasked)
    found.reverse()
    return found
