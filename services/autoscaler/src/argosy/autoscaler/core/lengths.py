"""Lengths of prompts and answers as a few slices of equal share: lognormal, by mean and std."""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

SLICES = 16
_NORMAL = NormalDist()


class Slice(NamedTuple):
    """One of SLICES equal shares of requests: tokens from `low` to `high`."""

    low: float
    high: float


@lru_cache(maxsize=4096)
def slices(mean: float, std: float) -> tuple[Slice, ...]:
    """Of a lognormal length, shortest first. The outermost two end at a quarter slice's quantile.

    Lengths of real services are near lognormal; mean and std are what a forecast has of them.
    """
    if std <= 0 or mean <= 0:
        return (Slice(mean, mean),) * SLICES
    variance = math.log1p((std / mean) ** 2)
    middle, spread = math.log(mean) - variance / 2, math.sqrt(variance)
    ends = (0.25, *range(1, SLICES), SLICES - 0.25)
    edges = [math.exp(middle + spread * _NORMAL.inv_cdf(end / SLICES)) for end in ends]
    return tuple(map(Slice, edges, edges[1:]))
