"""Balance between the data-parallel ranks of an instance, whose passes run in lockstep.

A decode pass lasts as long as its slowest rank, so the greatest of a·batch + b·KV over the
ranks is kept least (a, b: the instance's timing): a request goes to the rank where it is
least, and among requests that wait together the longest goes first (`schedule`). Guard: a
rank that holds far more KV than its siblings (over the third quartile by 1.5 times the
distance of the quartiles) gets nothing new while others have room.
Source of the guard: the IQR rule of staggered batch scheduling, arXiv 2512.16134.
"""

from statistics import quantiles

from argosy.router.core.fleet.candidates import Seat

GUARDED_RANKS = 4
"""Of fewer ranks quartiles say nothing."""
FENCE = 1.5


def without_outliers(seats: list[Seat]) -> list[Seat]:
    """The ranks that do not hold far more KV than the rest; all where that would be none."""
    if len(seats) < GUARDED_RANKS or max(len(s.instance.ranks) for s in seats) == 1:
        return seats
    held = [seat.rank.kv_blocks for seat in seats]
    first, _, third = quantiles(held, n=4, method="inclusive")
    fence = third + FENCE * (third - first)
    return [seat for seat, blocks in zip(seats, held, strict=True) if blocks <= fence] or seats
