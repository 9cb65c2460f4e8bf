"""History in, Prophet's path ahead out: runs in a process of its own, off the decision path."""

from collections.abc import Sequence
from dataclasses import dataclass

from argosy.autoscaler.season.prophet_fit import PlannedWindow, fit_season
from argosy.domain.plan_window import PlanWindow

FIT_S = 600
"""Prophet sees ten minutes at a time: seasons are hours long, and a fit takes a tenth as long."""
MOST_S = 90 * 86_400
"""Older history is not looked at."""


@dataclass(frozen=True)
class SeasonForecast:
    """Rates from a slot on, requests per second."""

    start_us: int
    rates: list[float]


def look_ahead(
    slots: Sequence[tuple[int, float]],
    slot_us: int,
    count: int,
    country: str = "",
    windows: Sequence[PlanWindow] = (),
) -> SeasonForecast | None:
    """The next `count` slots, from (start, rate) of those seen, oldest first.

    Operational plans that ask for more instances are regressors: a plan for every Friday says
    something of Fridays. None: under two days were seen.
    """
    times_s, rates = binned(slots)
    repeat = max(1, FIT_S * 1_000_000 // slot_us)
    planned = [
        PlannedWindow(w.plan, w.from_us / 1e6, w.until_us / 1e6)
        for w in windows
        if w.kind == "at_least"
    ]
    found = fit_season(times_s, rates, FIT_S, -(-count // repeat), country, windows=planned)
    if not found:
        return None
    start_us = round(1e6 * (times_s[-1] + FIT_S))
    return SeasonForecast(start_us, [rate for rate in found for _ in range(repeat)])


def binned(slots: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Means over FIT_S, of those spans that slots are known of."""
    sums: dict[int, list[float]] = {}
    newest_us = slots[-1][0] if slots else 0
    for start_us, rate in slots:
        if newest_us - start_us <= MOST_S * 1_000_000:
            sums.setdefault(start_us // (FIT_S * 1_000_000), []).append(rate)
    # The last one may not be over yet.
    whole = sorted(sums)[:-1]
    return [float(bin_ * FIT_S) for bin_ in whole], [sum(sums[b]) / len(sums[b]) for b in whole]
