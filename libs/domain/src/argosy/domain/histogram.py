"""Histograms of times, as plain lists of counts that can be added and subtracted.

Bucket n counts times in (BOUNDS_MS[n-1], BOUNDS_MS[n]]; one more bucket counts longer times. A
list ends with its last non-empty bucket. Bounds grow by the fourth root of 2, so a quantile is off
by less than 19 % whatever the times are (DDSketch, VLDB '19, bounds relative errors so).
"""

from bisect import bisect_left
from collections.abc import MutableSequence, Sequence
from itertools import zip_longest

BOUNDS_MS = tuple(round(2 ** (n / 4), 3) for n in range(77))
"""1 ms to 9 minutes: from one token of a fast decode to the wait for a model to load."""


def bucket_of(ms: float) -> int:
    """Return the index of the bucket that counts this time."""
    return bisect_left(BOUNDS_MS, ms)


def count(counts: MutableSequence[int], ms: float) -> None:
    """Count one more time."""
    bucket = bucket_of(ms)
    counts.extend([0] * (bucket + 1 - len(counts)))
    counts[bucket] += 1


def since(counts: Sequence[int], before: Sequence[int]) -> list[int]:
    """Subtract an earlier state of the same counts."""
    return [now - then for now, then in zip_longest(counts, before, fillvalue=0)]


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The time in milliseconds that a share `q` of the counted times does not exceed.

    None if nothing was counted. Assumes that times are spread evenly within a bucket, and that
    times beyond the last bound lie on it.
    """
    left = q * sum(counts)
    for bucket, held in enumerate(counts):
        if held and held >= left:
            low_ms = BOUNDS_MS[bucket - 1] if bucket else 0.0
            high_ms = BOUNDS_MS[min(bucket, len(BOUNDS_MS) - 1)]
            return low_ms + (high_ms - low_ms) * max(0.0, left / held)
        left -= held
    return None
