"""Latencies counted in bins, so that hours of them weigh nothing and percentiles are quick."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

BINS = 460
RATIO = 1.035
"""Of a bin's upper edge to its lower: percentiles are right to about 2 %."""
_LOG = float(np.log(RATIO))


def counted(values_ms: Numbers, weights: Numbers | None) -> Numbers:
    """Weights by bin; below 1 ms is the first, beyond two hours the last."""
    where = np.log(np.maximum(values_ms, 1.0)) / _LOG
    bins = np.minimum(where.astype(np.int64), BINS - 1)
    return np.bincount(bins, weights, BINS).astype(np.float64)


def percentile(bins: Numbers, share: float) -> float:
    """In milliseconds, in its bin's middle; 0 when nothing was counted."""
    sums = np.cumsum(bins)
    if sums[-1] <= 0:
        return 0.0
    found = int(np.searchsorted(sums, share * sums[-1]))
    return float(RATIO ** (min(found, BINS - 1) + 0.5))


class Minute:
    """Bins of the last minute's ticks."""

    def __init__(self, ticks: int) -> None:
        self.bins = np.zeros(BINS)
        self._kept: list[Numbers | None] = [None] * max(1, ticks)
        self._next = 0

    def add(self, bins: Numbers | None) -> None:
        """One more tick; None: there was nothing."""
        old = self._kept[self._next]
        if old is not None:
            self.bins -= old
        self._kept[self._next] = bins
        if bins is not None:
            self.bins += bins
        self._next = (self._next + 1) % len(self._kept)

    def beyond(self, ms: float) -> float:
        """The share of what was longer."""
        bins = np.where(self.bins > 1e-6, self.bins, 0.0)
        total = float(bins.sum())
        return float(bins[int(np.log(ms) / _LOG) + 1 :].sum()) / total if total else 0.0

    def percentile(self, share: float) -> float:
        """Over the minute; 0 when there was nothing."""
        return percentile(np.where(self.bins > 1e-6, self.bins, 0.0), share)
