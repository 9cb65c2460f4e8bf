"""Prophet's paths: what is a season, and what is not."""

import math
import pickle

import numpy as np
import pytest

from argosy.autoscaler.season.prophet_fit import Holiday, PlannedWindow, fit_season, outages

SLOT_S = 1800
DAY = 86_400 // SLOT_S


def wave(slot: int) -> float:
    return 100 + 50 * math.sin(2 * math.pi * slot / DAY)


def history(days: int) -> tuple[list[float], list[float]]:
    slots = range(days * DAY)
    return [float(slot * SLOT_S) for slot in slots], [wave(slot) for slot in slots]


def test_prophet_goes_on_with_the_day_it_has_seen(capfd: pytest.CaptureFixture[str]) -> None:
    times, values = history(4)
    del times[20:30], values[20:30]
    ahead = fit_season(times, values, SLOT_S, DAY)
    assert ahead == pytest.approx([wave(4 * DAY + slot) for slot in range(DAY)], rel=0.05)
    assert capfd.readouterr() == ("", "")


def test_holidays_and_planned_windows_have_effects_of_their_own() -> None:
    times, values = history(6)
    sale = [2 * DAY + 10, 4 * DAY + 10, 6 * DAY + 10]
    for start in sale[:2]:
        for slot in range(start, start + 6):
            values[slot] *= 3
    windows = [PlannedWindow("sale", s * SLOT_S, (s + 6) * SLOT_S) for s in sale]
    windows.append(PlannedWindow("never seen", 6.5 * 86_400, 6.6 * 86_400))
    ahead = fit_season(
        times, values, SLOT_S, DAY, holidays=[Holiday("feast", "1970-01-03")], windows=windows
    )
    assert ahead[12] > 2 * wave(6 * DAY + 12)
    assert ahead[30] < 1.5 * wave(6 * DAY + 30)


def test_less_than_two_days_are_no_season() -> None:
    times, values = history(1)
    assert fit_season(times, values, SLOT_S, 5) == []
    assert fit_season([], [], SLOT_S, 5) == []


def test_an_outage_is_left_out_and_empty_nights_are_not() -> None:
    times = np.arange(6 * DAY) * float(SLOT_S)
    values = np.where(np.arange(6 * DAY) % DAY < DAY // 4, 0.0, 100.0)
    values[3 * DAY + 30 : 3 * DAY + 34] = 0
    assert np.flatnonzero(outages(times, values, SLOT_S)).tolist() == list(
        range(3 * DAY + 30, 3 * DAY + 34)
    )


def test_no_traffic_at_all_is_no_traffic_ahead() -> None:
    times, values = history(3)
    assert fit_season(times, [0.0] * len(values), SLOT_S, 5) == pytest.approx([0.0] * 5, abs=1e-6)


def test_another_process_can_run_a_fit() -> None:
    assert pickle.loads(pickle.dumps(fit_season)) is fit_season
