"""Lengths of prompts and answers as a few slices of requests: lognormal, by mean and std."""

import math
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

EDGES = (
    0.004,
    *(n / 16 for n in range(1, 16)),
    31 / 32,
    63 / 64,
    127 / 128,
    255 / 256,
    1023 / 1024,
    0.9999,
)
"""Finer where requests are longest: they make the last percentiles."""
_NORMAL = NormalDist()


class LengthSlice(NamedTuple):
    """A share of requests: tokens from `low` to `high`."""

    share: float
    low: float
    high: float


@lru_cache(maxsize=4096)
def slices(mean: float, std: float) -> tuple[LengthSlice, ...]:
    """Of a lognormal length, shortest first.

    Lengths of real services are near lognormal; mean and std are what a forecast has of them.
    """
    if std <= 0 or mean <= 0:
        return (LengthSlice(1.0, mean, mean),)
    variance = math.log1p((std / mean) ** 2)
    middle, spread = math.log(mean) - variance / 2, math.sqrt(variance)
    ends = [math.exp(middle + spread * _NORMAL.inv_cdf(edge)) for edge in EDGES]
    shares = [EDGES[1], *(b - a for a, b in pairwise(EDGES[1:-1]))]
    shares.append(1 - EDGES[-2])
    return tuple(map(LengthSlice, shares, ends, ends[1:]))
