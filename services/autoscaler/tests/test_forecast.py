"""Forecasts of one series: what they promise whatever it does."""

import math
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.autoscaler.core.forecast.experts import NAMES
from argosy.autoscaler.core.forecast.forecaster import Forecaster, ForecastState

SLOT_S = 600
DAY = 86_400 // SLOT_S

Series = Callable[[random.Random, int], list[float]]


def daily(chance: random.Random, count: int) -> list[float]:
    wave = [1 + 0.6 * math.sin(2 * math.pi * slot / DAY) for slot in range(count)]
    return [100 * height * max(0.0, chance.gauss(1, 0.1)) for height in wave]


def random_walk(chance: random.Random, count: int) -> list[float]:
    level, values = 100.0, []
    for _ in range(count):
        level *= math.exp(chance.gauss(0, 0.03))
        values.append(level)
    return values


def step(chance: random.Random, count: int) -> list[float]:
    return [(100 if slot < count / 3 else 300) * chance.gauss(1, 0.05) for slot in range(count)]


def bursts(chance: random.Random, count: int) -> list[float]:
    return [50 * chance.gauss(1, 0.1) + 500 * (chance.random() < 0.03) for _ in range(count)]


def on_and_off(chance: random.Random, count: int) -> list[float]:
    on, values = True, []
    for _ in range(count):
        on ^= chance.random() < 0.03
        values.append(100 * chance.gauss(1, 0.1) if on else 0.0)
    return values


def outages(chance: random.Random, count: int) -> list[float]:
    values = daily(chance, count)
    for _ in range(count // DAY):
        start = chance.randrange(count)
        values[start : start + 9] = [0.0] * len(values[start : start + 9])
    return values


def nothing(_: random.Random, count: int) -> list[float]:
    return [0.0] * count


def compared(values: list[float], horizon: int) -> tuple[float, float, float]:
    """Absolute errors of the forecast and of the last value, and coverage; the second half."""
    forecaster, ours, last, covered, scored = Forecaster(ForecastState(SLOT_S)), 0.0, 0.0, 0, 0
    for slot, value in enumerate(values):
        forecaster.observe(slot, value)
        if slot + horizon < len(values) and slot >= len(values) // 2:
            band, came = forecaster.forecast(horizon), values[slot + horizon]
            ours += abs(band.mean - came)
            last += abs(value - came)
            covered += came <= band.upper
            scored += 1
    return ours, last, covered / scored


@pytest.mark.parametrize("horizon", [1, 6, 36])
@pytest.mark.parametrize("series", [daily, random_walk, step, bursts, on_and_off, outages, nothing])
def test_a_forecast_is_never_much_worse_than_the_last_value(series: Series, horizon: int) -> None:
    ours, last, _ = compared(series(random.Random(1), 8 * DAY), horizon)
    assert ours <= 1.05 * last


@pytest.mark.parametrize("series", [daily, bursts, outages])
def test_a_forecast_beats_the_last_value_where_there_is_something_to_learn(series: Series) -> None:
    ours, last, _ = compared(series(random.Random(2), 8 * DAY), 18)
    assert ours < 0.9 * last


@pytest.mark.parametrize("series", [daily, random_walk, bursts, outages])
@pytest.mark.parametrize("horizon", [1, 6, 18])
def test_the_upper_quantile_covers_as_asked(series: Series, horizon: int) -> None:
    _, _, coverage = compared(series(random.Random(3), 10 * DAY), horizon)
    assert 0.87 <= coverage <= 0.93


def test_before_anything_was_measured_the_last_value_stands() -> None:
    forecaster = Forecaster(ForecastState(SLOT_S))
    assert forecaster.path(5) == []
    forecaster.observe(0, 7.0)
    forecaster.observe(1, 9.0)
    assert [band.mean for band in forecaster.path(100)] == pytest.approx([9.0] * 100)
    assert all(band.upper > 9 for band in forecaster.path(100))
    assert forecaster.weights(3) == {name: float(name == "last") for name in NAMES}


def test_a_minute_s_slots_need_no_long_history() -> None:
    forecaster = Forecaster(ForecastState(60))
    chance = random.Random(4)
    for minute in range(60):
        forecaster.observe(minute, 100 * chance.gauss(1, 0.2))
    assert forecaster.forecast(10).mean == pytest.approx(100, rel=0.3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_what_is_no_rate_is_refused_and_changes_nothing(value: float) -> None:
    forecaster = Forecaster(ForecastState(SLOT_S))
    forecaster.observe(0, 5.0)
    before = msgspec.json.encode(forecaster.state)
    assert not forecaster.observe(1, value)
    assert not forecaster.take_season(1, [1.0, value])
    assert msgspec.json.encode(forecaster.state) == before


def test_a_slot_is_learned_once_and_in_order() -> None:
    forecaster = Forecaster(ForecastState(SLOT_S))
    assert forecaster.observe(5, 1.0)
    assert not forecaster.observe(5, 2.0)
    assert not forecaster.observe(4, 2.0)
    assert forecaster.forecast(1).mean == 1.0


def test_slots_left_out_are_unknown_not_zero() -> None:
    forecaster = Forecaster(ForecastState(SLOT_S))
    for slot in range(4 * DAY):
        if slot % 5:
            forecaster.observe(slot, 100.0)
    bands = forecaster.path(DAY)
    assert all(band.mean == pytest.approx(100) for band in bands)


def test_a_season_that_proves_right_is_followed() -> None:
    values = daily(random.Random(5), 6 * DAY)
    forecaster, ours, last = Forecaster(ForecastState(SLOT_S)), 0.0, 0.0
    truth = [100 * (1 + 0.6 * math.sin(2 * math.pi * slot / DAY)) for slot in range(8 * DAY)]
    for slot, value in enumerate(values):
        forecaster.observe(slot, value)
        if slot % 36 == 0:
            forecaster.take_season(slot + 1, truth[slot + 1 : slot + 109])
        if 3 * DAY <= slot < len(values) - 36:
            ours += abs(forecaster.forecast(36).mean - values[slot + 36])
            last += abs(value - values[slot + 36])
    assert ours < 0.3 * last


def test_a_season_that_proves_wrong_is_not() -> None:
    values = random_walk(random.Random(6), 5 * DAY)
    forecaster = Forecaster(ForecastState(SLOT_S))
    for slot, value in enumerate(values):
        forecaster.observe(slot, value)
        if slot % 36 == 0:
            forecaster.take_season(slot + 1, [1e6] * 108)
    assert forecaster.forecast(6).mean < 2 * values[-1]


RATES = st.floats(0, 1e9) | st.just(0.0)


@settings(max_examples=examples(40))
@given(
    st.lists(st.tuples(st.integers(1, 40), RATES), min_size=1, max_size=60),
    st.lists(RATES, max_size=30),
    st.sampled_from([60, 600, 3600]),
)
def test_forecasts_are_finite_not_negative_and_grow_with_the_quantile(
    steps: list[tuple[int, float]], season: list[float], slot_s: int
) -> None:
    forecaster, slot = Forecaster(ForecastState(slot_s)), 0
    for place, (gap, value) in enumerate(steps):
        slot += gap
        assert forecaster.observe(slot, value)
        if place == len(steps) // 2:
            assert forecaster.take_season(slot + 1, season)
    for ahead in (1, 2, 7, 13, 100, 1000):
        uppers = [forecaster.forecast(ahead, quantile).upper for quantile in (0.5, 0.9, 0.99)]
        mean = forecaster.forecast(ahead).mean
        assert 0 <= mean <= uppers[0] <= uppers[1] <= uppers[2] < math.inf


@settings(max_examples=examples(20))
@given(st.lists(RATES, min_size=2, max_size=80), st.integers(1, 79))
def test_a_state_that_was_written_down_goes_on_as_if_it_had_not(
    values: list[float], cut: int
) -> None:
    through, restored = Forecaster(ForecastState(SLOT_S)), Forecaster(ForecastState(SLOT_S))
    for slot, value in enumerate(values):
        if slot == cut:
            written = msgspec.json.encode(restored.state)
            restored = Forecaster(msgspec.json.decode(written, type=ForecastState))
        through.observe(slot, value)
        restored.observe(slot, value)
    assert restored.state == through.state
    assert restored.path(80) == through.path(80)


def test_memory_is_bounded() -> None:
    forecaster, sizes = Forecaster(ForecastState(3600)), []
    for slot in range(24 * 60):
        forecaster.observe(slot, 50.0 + slot % 24)
        if slot in {24 * 30, 24 * 60 - 1}:
            sizes.append(len(msgspec.msgpack.encode(forecaster.state)))
    assert sizes[1] <= 1.01 * sizes[0]
