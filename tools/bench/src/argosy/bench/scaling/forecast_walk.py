"""A walk forward through a series: at every slot all forecasts are made, and scored later."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import msgspec

from argosy.autoscaler.core.forecast.experts import NAMES
from argosy.autoscaler.core.forecast.forecaster import Forecaster, ForecastState
from argosy.autoscaler.season.prophet_fit import DAILY_FROM_S, fit_season
from argosy.bench.scaling.forecast_trace import DAY_S, Series

OURS = "argosy"
RIVALS = ("last", "holt", "seasonal", "prophet")
QUANTILE = 0.9
TRAINED_SHARE = 4 / 7
"""Eight days of fourteen."""
REFIT_S = 6 * 3600
PATH_S = REFIT_S + 12 * 3600
FITS_AT_ONCE = 2


class ForecastScore(msgspec.Struct):
    """Of one horizon: sums over scored slots. Errors by forecaster."""

    n: int = 0
    total: float = 0
    covered: int = 0
    errors: dict[str, float] = msgspec.field(
        default_factory=lambda: dict.fromkeys((OURS, *RIVALS), 0.0)
    )

    def add(self, means: Mapping[str, float], upper: float, value: float) -> None:
        """What was said of a slot, and what it was."""
        self.n += 1
        self.total += value
        self.covered += value <= upper
        for name, mean in means.items():
            self.errors[name] += abs(mean - value)

    def wape(self, name: str) -> float | None:
        """Absolute errors over the values' sum; None: there was nothing but zeros."""
        return self.errors[name] / self.total if self.total else None


def fit_all(series: Series, fitted: Callable[[int, int], None]) -> dict[int, list[float]]:
    """Prophet's paths by the slot that each starts with, each from all slots before it."""
    step, ahead = REFIT_S // series.slot_s, PATH_S // series.slot_s
    starts = list(range(DAILY_FROM_S // series.slot_s, len(series.values), step))
    if not starts:
        return {}
    paths: dict[int, list[float]] = {}
    with ProcessPoolExecutor(FITS_AT_ONCE, mp_context=get_context("spawn")) as pool:
        fits = []
        for start in starts:
            times_s, values = series.seen(start)
            missing = start - 1 - round(times_s[-1] / series.slot_s) if times_s else 0
            fit = pool.submit(fit_season, times_s, values, series.slot_s, missing + ahead)
            fits.append((start, missing, fit))
        for done, (start, missing, fit) in enumerate(fits):
            paths[start] = fit.result()[missing:]
            fitted(done + 1, len(starts))
    return paths


def walk(series: Series, paths: Mapping[int, list[float]]) -> dict[int, ForecastScore]:
    """Scores by horizon, in slots; all forecasters at the same origins."""
    forecaster = Forecaster(ForecastState(series.slot_s, QUANTILE))
    count = len(series.values)
    first = trained(series)
    lengths = [
        horizon.slots
        for horizon in forecaster.state.horizons
        if horizon.slots <= (count - first) / 2
    ]
    scores = {length: ForecastScore() for length in lengths}
    for slot, value in enumerate(series.values):
        if value is not None:
            forecaster.observe(slot, value)
        if path := paths.get(slot + 1):
            forecaster.take_season(slot + 1, path)
        if slot < first or value is None:
            continue
        for length, actual in _actuals(series, slot, lengths):
            band = forecaster.forecast(length)
            means: dict[str, float] = {OURS: band.mean}
            by_name = dict(zip(NAMES, forecaster.state.experts.ahead(length), strict=True))
            means.update((name, by_name[name]) for name in RIVALS)
            scores[length].add(means, band.upper, actual)
    return scores


def trained(series: Series) -> int:
    """The slot from which forecasts are scored."""
    return int(len(series.values) * TRAINED_SHARE)


def silent(series: Series) -> set[str]:
    """Whose forecasts were but the last value's when scoring began: too little was seen."""
    span_s = trained(series) * series.slot_s
    return {n for n, s in (("seasonal", DAY_S), ("prophet", DAILY_FROM_S)) if span_s < s}


def report_of(series: Series, scores: Mapping[int, ForecastScore]) -> dict[str, Any]:
    """The figures: WAPE and coverage by horizon, and how they compare with the last value."""
    without = silent(series)
    horizons = [
        {
            "minutes": length * series.slot_s / 60,
            "n": score.n,
            "wape": {
                name: None if name in without else score.wape(name) for name in (OURS, *RIVALS)
            },
            "coverage": score.covered / score.n,
        }
        for length, score in scores.items()
        if score.n
    ]
    gains = [
        (length, 1 - score.errors[OURS] / score.errors["last"])
        for length, score in scores.items()
        if score.errors["last"] > 0
    ]
    far = [gain for length, gain in gains if length * series.slot_s >= 3 * 3600]
    return {
        "slot_s": series.slot_s,
        "slots": len(series.values),
        "scored_from": trained(series),
        "quantile": QUANTILE,
        "horizons": horizons,
        "never_above_last": all(gain >= -1e-9 for _, gain in gains),
        "gain_from_3h": min(far, default=None),
    }


def _actuals(series: Series, slot: int, lengths: list[int]) -> Iterator[tuple[int, float]]:
    for length in lengths:
        value = series.values[slot + length] if slot + length < len(series.values) else None
        if value is not None:
            yield length, value
