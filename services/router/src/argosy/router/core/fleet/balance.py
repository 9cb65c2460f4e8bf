"""Balance between the data-parallel ranks of an instance, whose steps run in lockstep.

A decode step ends when its slowest rank does, so the greatest of a·batch + b·KV over the ranks
is to be small (a, b: the instance's timing): a request goes to the rank where it is least, and
among requests that wait together the longest goes first (`schedule`). Guard: a rank that holds
far more KV than its peers (over the third quartile by 1.5 times the distance of the quartiles)
gets nothing new while others have room.
Source of the guard: the IQR rule of staggered batch scheduling, arXiv 2512.16134.
"""

from statistics import quantiles

from argosy.router.core.fleet.candidates import Candidate

GUARDED_RANKS = 4
"""Quartiles of fewer ranks say nothing."""
FENCE = 1.5
"""Tukey's factor for outliers, as in the source."""


def without_outliers(candidates: list[Candidate]) -> list[Candidate]:
    """The ranks that do not hold far more KV than the rest; all where that would be none."""
    if len(candidates) < GUARDED_RANKS or max(len(c.instance.ranks) for c in candidates) == 1:
        return candidates
    held = [candidate.rank.kv_blocks for candidate in candidates]
    first, _, third = quantiles(held, n=4, method="inclusive")
    fence = third + FENCE * (third - first)
    return [
        candidate for candidate, blocks in zip(candidates, held, strict=True) if blocks <= fence
    ] or candidates
