from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.histogram import BOUNDS_MS, bucket_of, count, quantile, since

times = st.lists(st.floats(0, 400_000), min_size=1, max_size=50)


def counted(times_ms: list[float]) -> list[int]:
    counts: list[int] = []
    for ms in times_ms:
        count(counts, ms)
    return counts


def test_bounds_are_geometric() -> None:
    ratios = [high / low for low, high in pairwise(BOUNDS_MS)]
    assert (BOUNDS_MS[0], BOUNDS_MS[-1]) == (1, 2**19)
    assert all(ratio == pytest.approx(2**0.25, abs=1e-3) for ratio in ratios)


@given(st.floats(0, 1e9))
def test_a_bucket_holds_what_is_over_the_bound_before_it_and_not_over_its_own(ms: float) -> None:
    bucket = bucket_of(ms)
    assert bucket == len(BOUNDS_MS) or ms <= BOUNDS_MS[bucket]
    assert bucket == 0 or ms > BOUNDS_MS[bucket - 1]


@given(times, st.floats(0, 1))
def test_a_quantile_is_in_the_bucket_of_the_time_at_that_rank(
    times_ms: list[float], q: float
) -> None:
    found = quantile(counted(times_ms), q)
    assert found is not None
    rank = next(n for n in range(1, len(times_ms) + 1) if n >= q * len(times_ms))
    bucket = bucket_of(sorted(times_ms)[rank - 1])
    assert (BOUNDS_MS[bucket - 1] if bucket else 0) <= found <= BOUNDS_MS[bucket]


@given(times, times)
def test_counts_between_two_reports_are_those_of_the_times_between(
    first: list[float], then: list[float]
) -> None:
    before, after = counted(first), counted(first + then)
    between = since(after, before)
    assert sum(between) == len(then)
    assert quantile(between, 0.5) == quantile(counted(then), 0.5)


def test_nothing_counted_has_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile([0, 0], 0.5) is None


def test_what_is_beyond_the_last_bound_is_told_as_that() -> None:
    assert quantile(counted([1e9]), 0.99) == BOUNDS_MS[-1]
