"""One non-negative series and what it will be: experts, their blend, and calibrated bands."""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from argosy.autoscaler.core.forecast.bands import Band, Tail
from argosy.autoscaler.core.forecast.blend import HALF_LIFE_S, Blend, new_blend, weighed
from argosy.autoscaler.core.forecast.experts import NAMES, Experts, new_experts

HORIZONS_MINUTES = (2, 5, 10, 20, 30, 60, 120, 180, 360, 720)
"""Where errors are measured, beside a single slot; between them weights are interpolated."""
SLOT_S = 60
LARGEST = 1e12
"""No rate and no length is larger; below it, squares and sums of squares stay finite."""


class ForecastRecord(msgspec.Struct):
    """What was forecast of a slot before it came."""

    slot: int
    by_expert: list[float]
    blended: float
    mean: float
    upper: float
    size: float


class Horizon(msgspec.Struct):
    """All that is kept of one horizon."""

    slots: int
    blend: Blend
    tail: Tail
    weights: list[float]
    """Of the experts; they sum to 1."""
    said: list[ForecastRecord | None]
    """A ring of `slots`."""


class ForecastState(msgspec.Struct):
    """All that a forecaster remembers: plain data of bounded size."""

    slot_s: int = SLOT_S
    quantile: float = 0.9
    """Whose coverage is kept calibrated."""
    experts: Experts = msgspec.field(default_factory=lambda: new_experts(SLOT_S))
    horizons: list[Horizon] = []
    """None yet: no forecaster has had this state."""
    total: float = 0
    count: float = 0
    """Both decay; total / count: how large the series usually is."""


class Forecaster:
    """Forecasts a series by slots, numbered since 1970 (UTC) so that they have a time of day."""

    def __init__(self, state: ForecastState) -> None:
        self.state = state
        if not state.horizons:
            state.experts = new_experts(state.slot_s)
            state.horizons = new_horizons(state.slot_s, state.quantile)
        self._grid = [horizon.slots for horizon in state.horizons]

    def observe(self, slot: int, value: float) -> bool:
        """Learn the value of a slot; whether it was taken.

        Refused: a value that is not from 0 to LARGEST, and a slot not later than all before.
        Slots left out are unknown; zero is a value.
        """
        state, experts = self.state, self.state.experts
        if not (0 <= value <= LARGEST and slot > experts.slot):
            return False
        decay = 0.5 ** (state.slot_s / HALF_LIFE_S)
        state.total = decay * state.total + value
        state.count = decay * state.count + 1
        for horizon in state.horizons:
            said = horizon.said[slot % horizon.slots]
            if said is not None and said.slot == slot:
                self._learn(horizon, said, value, decay)
        experts.observe(slot, value)
        reaches = self._reaches(None)
        for horizon in state.horizons:
            self._say(horizon, reaches)
        return True

    def take_season(self, start_slot: int, values: Sequence[float]) -> bool:
        """Take Prophet's path: a value for `start_slot` and each slot after; False: refused.

        It replaces the one before. Refused: values that are not from 0 to LARGEST.
        """
        if not all(0 <= value <= LARGEST for value in values):
            return False
        self.state.experts.take_path(start_slot, list(values))
        return True

    def forecast(self, slots: int, quantile: float | None = None) -> Band:
        """The slot that is this many (at least 1) after the latest one."""
        return self._ahead(slots, self._reaches(quantile))

    def path(self, slots: int, quantile: float | None = None) -> list[Band]:
        """The next slots, as many as asked for; none if no slot was seen yet."""
        if self.state.experts.slot < 0:
            return []
        reaches = self._reaches(quantile)
        return [self._ahead(ahead, reaches) for ahead in range(1, slots + 1)]

    def weights(self, slots: int) -> dict[str, float]:
        """What each expert counts for, at the measured horizon next below."""
        place = max(0, bisect_right(self._grid, slots) - 1)
        return dict(zip(NAMES, self.state.horizons[place].weights, strict=True))

    def _learn(self, horizon: Horizon, said: ForecastRecord, value: float, decay: float) -> None:
        horizon.blend.learn(said.by_expert, said.blended, value, decay)
        horizon.weights = horizon.blend.held_back()
        score = min((value - said.mean) / said.size, LARGEST) if said.size > 0 else 0.0
        horizon.tail.learn(score, self.state.quantile, covered=value <= said.upper)

    def _say(self, horizon: Horizon, reaches: list[float]) -> None:
        experts = self.state.experts
        by_expert = experts.ahead(horizon.slots)
        band = self._ahead(horizon.slots, reaches)
        horizon.said[experts.slot % horizon.slots] = ForecastRecord(
            experts.slot + horizon.slots,
            by_expert,
            horizon.blend.blended(by_expert),
            band.mean,
            band.upper,
            self._size(band.mean),
        )

    def _ahead(self, slots: int, reaches: list[float]) -> Band:
        """Between two measured horizons weights and reach are interpolated, experts are not."""
        said = self.state.experts.ahead(slots)
        near = max(0, bisect_right(self._grid, slots) - 1)
        mean, reach = weighed(self.state.horizons[near].weights, said), reaches[near]
        beyond = slots - self._grid[near]
        if beyond > 0 and near + 1 < len(self._grid):
            far = near + 1
            share = beyond / (self._grid[far] - self._grid[near])
            mean += share * (weighed(self.state.horizons[far].weights, said) - mean)
            reach += share * (reaches[far] - reach)
        return Band(mean, mean + reach * self._size(mean))

    def _reaches(self, quantile: float | None) -> list[float]:
        """What to allow for above the mean, by measured horizon."""
        usual = self.state.quantile
        asked = usual if quantile is None else quantile
        return [horizon.tail.reach(usual, asked) for horizon in self.state.horizons]

    def _size(self, mean: float) -> float:
        """The unit of scores: between the forecast and what the series usually is."""
        state = self.state
        return (mean + state.total / state.count) / 2 if state.count else mean


def new_horizons(slot_s: int, quantile: float) -> list[Horizon]:
    """A single slot, and all measured horizons that are longer."""
    lengths = sorted({1} | {60 * minutes // slot_s for minutes in HORIZONS_MINUTES} - {0})
    return [_new_horizon(slots, quantile) for slots in lengths]


def _new_horizon(slots: int, quantile: float) -> Horizon:
    blend = new_blend(slots)
    return Horizon(slots, blend, Tail(quantile, slots), blend.held_back(), [None] * slots)
