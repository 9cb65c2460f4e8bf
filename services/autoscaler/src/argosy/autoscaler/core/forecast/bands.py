"""Upper quantiles that hold: adaptive conformal inference (Gibbs & Candès, NeurIPS 2021).

A score is what was above its forecast, in units of how large the series is. The upper bound
stands at a quantile of recent scores; which quantile is corrected a little after every slot,
down when the slot was covered and up when it was not, so that coverage comes out as asked
whatever the series does. A correction shows only a horizon later: steps are so small that
those under way cannot overshoot by more than SWING. Scores less than a horizon apart overlap:
the quantile's correction for few scores counts a horizon's worth of them as one.
"""

import math

import msgspec

from argosy.autoscaler.core.forecast.median import Latest

SCORES = 512
STEP = 0.02
SWING = 0.5
UNKNOWN = 0.5
"""Of its size, what a series may be above its forecast before anything was measured."""


class Band(msgspec.Struct, frozen=True):
    """A forecast of one slot."""

    mean: float
    upper: float
    """Not exceeded with the probability asked for."""


class Tail(msgspec.Struct):
    """Scores at one horizon, and the quantile of them that covers as asked."""

    level: float
    """Of the scores: from -SWING to 1 + SWING; beyond 0 and 1, what is owed to coverage."""
    horizon: int
    """Slots."""
    scores: Latest = msgspec.field(default_factory=lambda: Latest(SCORES))

    def learn(self, score: float, quantile: float, *, covered: bool) -> None:
        """A slot's score, and whether its bound had held."""
        missed = 0.0 if covered else 1.0
        step = min(STEP, SWING / self.horizon)
        level = self.level + step * (missed - (1 - quantile))
        self.level = min(1 + SWING, max(-SWING, level))
        self.scores.add(score)

    def reach(self, quantile: float, asked: float) -> float:
        """The score to allow for; at least 0.

        `quantile`: the one that is kept calibrated. Others are read off the same scores,
        shifted likewise.
        """
        ordered = self.scores.ordered
        if not ordered:
            return UNKNOWN
        level = self.level
        if asked < quantile:
            level *= asked / quantile
        elif asked > quantile:
            level = 1 - (1 - level) * (1 - asked) / (1 - quantile)
        count = len(ordered)
        independent = max(1.0, count / self.horizon)
        place = math.ceil(level * count * (1 + 1 / independent)) - 1
        return max(0.0, ordered[min(max(place, 0), count - 1)])
