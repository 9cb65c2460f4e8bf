"""Prophet's view of a series: trend, time of day, day of week, holidays and planned windows.

A plain function of plain data, so that a caller can run it in a process of its own: a fit
takes a tenth of a second to seconds. Prophet: Taylor & Letham, The American Statistician 72,
2018. Wall-clock history is what lets it see a day and a week at all.
"""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

DAY_S = 86_400
DAILY_FROM_S = 2 * DAY_S
WEEKLY_FROM_S = 14 * DAY_S
"""A season is believed once its period was seen twice (Prophet's own rule)."""
DAILY_ORDER = 10
"""Fourier terms: what lasts a tenth of a day is still seen."""
NEAR_ZERO = 0.05
"""Of the median: less is as good as no traffic."""


class PlannedWindow(msgspec.Struct, frozen=True):
    """A time at which something planned happens, Unix seconds; equal names, equal effect."""

    name: str
    start_s: float
    end_s: float


class Holiday(msgspec.Struct, frozen=True):
    """A day unlike others: "2026-05-01"; equal names, equal effect."""

    name: str
    day: str


def fit_season(
    times_s: Sequence[float],
    values: Sequence[float],
    slot_s: int,
    slots_ahead: int,
    country: str = "",
    holidays: Sequence[Holiday] = (),
    windows: Sequence[PlannedWindow] = (),
) -> list[float]:
    """The slots after the last one, as Prophet expects them; none if under two days were seen.

    `times_s`: starts of the slots seen, ascending, Unix seconds; gaps are fine. `country`:
    whose public holidays count, by ISO code.

    Prophet fits means, and one outage would bend every day's. So slots near zero at a time of
    day that usually is not are left out of the fit: what happens once is no season. Nights
    that are empty stay in.
    """
    if not times_s or times_s[-1] + slot_s - times_s[0] < DAILY_FROM_S:
        return []
    times, seen = np.asarray(times_s, float), np.asarray(values, float)
    kept = ~outages(times, seen, slot_s)
    pandas, prophet = _libraries()
    useful = sorted({w.name for w in windows if np.any(_inside(times[kept], w))})
    model = prophet.Prophet(
        daily_seasonality=DAILY_ORDER,
        weekly_seasonality=bool(times[-1] + slot_s - times[0] >= WEEKLY_FROM_S),
        yearly_seasonality=False,
        uncertainty_samples=0,
        holidays=_holidays(pandas, holidays),
    )
    if country:
        model.add_country_holidays(country)
    for name in useful:
        model.add_regressor(f"window {name}")
    history = _frame(pandas, times[kept], useful, windows)
    history["y"] = seen[kept]
    ahead = _frame(pandas, times[-1] + slot_s * np.arange(1, slots_ahead + 1), useful, windows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(history)
        expected = model.predict(ahead)["yhat"]
    return [max(0.0, float(value)) for value in expected]


def _frame(pandas: Any, at: Any, names: Sequence[str], windows: Sequence[PlannedWindow]) -> Any:
    """Times as Prophet takes them, and for each name of windows whether one holds."""
    columns = {"ds": pandas.to_datetime(at, unit="s")}
    for name in names:
        inside = [_inside(at, window) for window in windows if window.name == name]
        columns[f"window {name}"] = np.any(inside, axis=0).astype(float)
    return pandas.DataFrame(columns)


def outages(times: Any, values: Any, slot_s: int) -> Any:
    """Which slots are near zero at a time of day that usually is not."""
    low = values < NEAR_ZERO * np.median(values)
    time_of_day = (times % DAY_S // slot_s).astype(int)
    often = np.bincount(time_of_day, weights=low) >= np.bincount(time_of_day) / 2
    return low & ~often[time_of_day]


def _inside(at: Any, window: PlannedWindow) -> Any:
    return (at >= window.start_s) & (at < window.end_s)


def _holidays(pandas: Any, holidays: Sequence[Holiday]) -> Any:
    if not holidays:
        return None
    days = pandas.to_datetime([holiday.day for holiday in holidays])
    return pandas.DataFrame({"holiday": [holiday.name for holiday in holidays], "ds": days})


def _libraries() -> tuple[Any, Any]:
    """pandas and Prophet, which takes seconds to import and likes to talk."""
    logging.getLogger("prophet").setLevel(logging.CRITICAL)
    import pandas  # type: ignore[import-untyped]
    import prophet

    logging.getLogger("cmdstanpy").disabled = True
    return pandas, prophet
