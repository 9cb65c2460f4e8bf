"""Experts weighed by what they were wrong by, at one horizon.

Two steps. First, each expert weighs as the inverse fourth power of its decayed absolute
error (inverse-error combination: Bates & Granger, Operational Research Quarterly 20, 1969).
Then that blend is trusted over the last value only as far as it measurably was better:
its decayed advantage over its standard error, t, allows the positive-part James-Stein share
max(0, 1 - 1/t²). Up to t = 1, and so before anything was measured, the last value stands.
Errors of forecasts made less than a horizon apart overlap and are not independent, so the
standard error is taken over blocks of a horizon's length.
"""

import math
from operator import mul

import msgspec

from argosy.autoscaler.core.forecast.experts import LAST, NAMES

HALF_LIFE_S = 14 * 86_400
"""Of what an error counts: the longest season, twice."""
LEAST_SHARE = 1e-3
"""Of the mean error: no expert counts as better than that."""


class Blend(msgspec.Struct):
    """The experts' weights at one horizon."""

    horizon: int
    """Slots."""
    errors: list[float]
    weights: list[float]
    """By expert, of the blend before it is held back; they sum to 1."""
    trust: float = 0
    """In the blend, the rest being in the last value: 0 to 1."""
    gain: float = 0
    spread: float = 0
    block: float = 0
    block_slots: int = 0

    def learn(self, said: list[float], blended: float, value: float, decay: float) -> None:
        """What experts and their blend had said of a slot, and what it was."""
        errors = self.errors
        for place, guess in enumerate(said):
            errors[place] = decay * errors[place] + abs(guess - value)
        self._weigh()
        better = abs(said[LAST] - value) - abs(blended - value)
        self.gain = decay * self.gain + better
        self.spread *= decay
        self.block += better
        self.block_slots += 1
        doubt = self.spread + self.block * self.block
        if self.block_slots >= self.horizon:
            self.spread, self.block, self.block_slots = doubt, 0, 0
        error = math.sqrt(doubt)
        self.trust = 1 - (error / self.gain) ** 2 if self.gain > error else 0

    def blended(self, said: list[float]) -> float:
        """The blend, trusted or not."""
        return weighed(self.weights, said)

    def held_back(self) -> list[float]:
        """The weights that a forecast uses: the last value has what the blend is not trusted."""
        weights = [self.trust * weight for weight in self.weights]
        weights[LAST] += 1 - self.trust
        return weights

    def _weigh(self) -> None:
        mean = sum(self.errors) / len(self.errors)
        if mean <= 0:
            return
        raw = []
        for error in self.errors:
            squared = (error / mean + LEAST_SHARE) ** 2
            raw.append(1 / (squared * squared))
        whole = sum(raw)
        self.weights = [weight / whole for weight in raw]


def new_blend(horizon: int) -> Blend:
    """All experts alike, and none of it trusted yet."""
    count = len(NAMES)
    return Blend(horizon, [0.0] * count, [1 / count] * count)


def weighed(weights: list[float], values: list[float]) -> float:
    """The weighted sum."""
    total: float = sum(map(mul, weights, values))
    return total
