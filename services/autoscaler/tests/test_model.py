"""The capacity model's rules; `argosy bench plan` measures how near it is to the simulator."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.autoscaler.core.capacity.model import (
    CapacityScore,
    decode_miss,
    decode_need,
    prefill_miss,
    prefill_need,
    score,
)
from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing

MOCKER = Timing()
CPU = Timing(
    prefill_ms=(72.8511, 1.66186, 0.000559543),
    decode_ms=(66.2945, 74.2809, 2.52797),
    decode_ms_per_request=1.61311,
    kv_bytes_per_token=46080,
    transfer_gb_per_s=(1.07, 1.07, 1.07),
)
FLEETS = [(MOCKER, Machine(), Slo()), (CPU, Machine(tokens_per_step=512), Slo(20_000, 150))]
COUNTS = range(65)
ROUNDING = 1e-6

fleets = st.sampled_from(FLEETS)


@st.composite
def demands(draw):
    prompt, output = draw(st.floats(50, 20_000)), draw(st.floats(2, 2000))
    uneven = st.floats(0, 2)
    return Demand(
        draw(st.floats(0.01, 200)),
        prompt,
        prompt * draw(uneven),
        output,
        output * draw(uneven),
        draw(st.floats(0, 0.95)),
    )


@given(demands(), fleets)
@settings(max_examples=examples(40))
def test_more_instances_never_miss_more(demand, fleet):
    for misses in (prefill_miss, decode_miss):
        found = misses(demand, COUNTS, *fleet)
        assert all(0 <= miss <= 1 for miss in found)
        assert found[0] == 1
        assert all(b <= a + ROUNDING for a, b in pairwise(found))


@given(demands(), fleets, st.floats(1, 4), st.integers(1, 64))
@settings(max_examples=examples(40))
def test_more_demand_never_misses_less(demand, fleet, factor, count):
    for misses in (prefill_miss, decode_miss):
        fewer, more = (misses(d, [count], *fleet)[0] for d in (demand, demand.times(factor)))
        assert fewer <= more + ROUNDING


@given(demands(), fleets, st.integers(0, 4), st.integers(1, 4))
@settings(max_examples=examples(8))
def test_a_score_is_in_order_and_the_same_each_time(demand, fleet, prefill, decode):
    found = score(demand, prefill, decode, *fleet)
    assert found == score(demand, prefill, decode, *fleet)
    assert 0 <= found.ttft_p50_ms <= found.ttft_p90_ms <= found.ttft_p99_ms
    assert 0 <= found.tpot_p50_ms <= found.tpot_p90_ms
    assert 0 <= found.attained <= 1
    assert found.prefill_use >= 0
    assert found.decode_use >= 0


@given(demands(), fleets, st.floats(0.005, 0.2))
@settings(max_examples=examples(20))
def test_what_is_needed_is_enough(demand, fleet, miss):
    for need, misses in ((prefill_need, prefill_miss), (decode_need, decode_miss)):
        count = need(demand, *fleet, miss)
        assert count >= 1
        enough, plenty = misses(demand, [count, 4096], *fleet)
        assert enough <= plenty + miss * (1 - plenty) + ROUNDING


def test_of_fleets_that_all_miss_the_larger_is_better():
    demand = Demand(5000, 1155, 1155, 211, 211)
    for misses in (prefill_miss, decode_miss):
        found = misses(demand, [1, 2, 4, 8], *FLEETS[0])
        assert found[0] > found[1] > found[2] > found[3] > 0.5


def test_nobody_asking_needs_nobody():
    idle = Demand(0)
    assert prefill_miss(idle, [0, 1], *FLEETS[0]) == [0, 0]
    assert decode_miss(idle, [0, 1], *FLEETS[0]) == [0, 0]
    assert prefill_need(idle, *FLEETS[0], 0.01) == decode_need(idle, *FLEETS[0], 0.01) == 0
    assert score(idle, 1, 1, *FLEETS[0]).attained == pytest.approx(1, abs=0.01)


def test_no_decode_instance_answers_nobody():
    found = score(Demand(1), 1, 0, *FLEETS[0])
    assert isinstance(found, CapacityScore)
    assert found.attained == 0


def test_cached_prefixes_save_prefill():
    plain = Demand(60, 4000, 4000, 200, 200)
    cached = Demand(60, 4000, 4000, 200, 200, hit_share=0.7)
    assert prefill_need(cached, *FLEETS[0], 0.05) < prefill_need(plain, *FLEETS[0], 0.05)
    a, b = (score(d, 6, 6, *FLEETS[0]) for d in (plain, cached))
    assert b.ttft_p90_ms < a.ttft_p90_ms


def test_instances_that_do_both_are_slower_at_tokens():
    demand = Demand(40, 1155, 1155, 211, 211)
    both, apart = score(demand, 0, 4, *FLEETS[0]), score(demand, 4, 4, *FLEETS[0])
    assert both.tpot_p50_ms > apart.tpot_p50_ms
