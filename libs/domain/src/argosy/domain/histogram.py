"""Counts of times by size: what can be added up, taken apart and asked for quantiles.

Bucket n holds times up to and with BOUNDS_MS[n]; one more holds what is longer. Counts are
lists that end with the last bucket that is not empty. Bounds grow by the fourth root of 2,
so a quantile is off by less than 19 % whatever the times are (as DDSketch, VLDB '19, bounds
relative errors).
"""

from bisect import bisect_left
from collections.abc import MutableSequence, Sequence
from itertools import zip_longest

BOUNDS_MS = tuple(round(2 ** (n / 4), 3) for n in range(77))
"""1 ms to 9 minutes: from a token of the quickest decode to a wait for a model to load."""


def bucket_of(ms: float) -> int:
    """The number of the bucket that holds this time."""
    return bisect_left(BOUNDS_MS, ms)


def count(counts: MutableSequence[int], ms: float) -> None:
    """Count one more time."""
    bucket = bucket_of(ms)
    counts.extend([0] * (bucket + 1 - len(counts)))
    counts[bucket] += 1


def since(counts: Sequence[int], before: Sequence[int]) -> list[int]:
    """What has been counted since the same counts were `before`."""
    return [now - then for now, then in zip_longest(counts, before, fillvalue=0)]


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The time in milliseconds that a share `q` of those counted do not exceed; None: of none.

    Times are taken to be evenly spread within a bucket; what is beyond the last bound, at it.
    """
    left = q * sum(counts)
    for bucket, held in enumerate(counts):
        if held and held >= left:
            low_ms = BOUNDS_MS[bucket - 1] if bucket else 0.0
            high_ms = BOUNDS_MS[min(bucket, len(BOUNDS_MS) - 1)]
            return low_ms + (high_ms - low_ms) * max(0.0, left / held)
        left -= held
    return None
