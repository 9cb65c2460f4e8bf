import msgspec
import pytest

from argosy.domain.demand import Machine, Slo
from argosy.engine.profile_files import load_profile
from argosy.sim.scaling.observation import Observation
from argosy.sim.scaling.policies.dynamo import Dynamo
from argosy.sim.scaling.policies.hpa import Hpa
from argosy.sim.scaling.policies.keda_slo import KedaSlo, desired

IDLE = Observation(
    now_s=0,
    arrived_requests=0,
    prompt_tokens=0,
    prompt_tokens_squared=0,
    output_tokens=0,
    output_tokens_squared=0,
    finished_requests=0,
    cached_tokens=0,
    queued_requests=0,
    running_requests=0,
    ttft_p90_ms=0,
    tpot_p90_ms=0,
    kv_share=0,
    ready={"prefill": 4, "decode": 4},
    warming={"prefill": 0, "decode": 0},
)
CEILING = {"prefill": 16, "decode": 16}


def at(now_s, **seen):
    return msgspec.structs.replace(IDLE, now_s=now_s, **seen)


def test_hpa_goes_up_at_once_at_most_doubling_or_four_more():
    policy = Hpa(100, CEILING)
    assert policy.decide(at(15, queued_requests=50))["prefill"] == 8
    assert (
        policy.decide(at(31, queued_requests=50, ready={"prefill": 8, "decode": 4}))["prefill"]
        == 16
    )


def test_hpa_leaves_a_tenth_more_or_less_alone():
    policy = Hpa(100, CEILING)
    seen = at(15, running_requests=350, queued_requests=4)
    assert policy.decide(seen) == {"prefill": 4, "decode": 4}, "4.4 instances' worth"
    seen = at(30, running_requests=355, queued_requests=4)
    assert policy.decide(seen) == {"prefill": 4, "decode": 5}
    ten = {"prefill": 10, "decode": 10}
    seen = at(330, running_requests=860, queued_requests=10, ready=ten)
    assert policy.decide(seen) == ten, "11 of 10 wished, for 860 at 80 each"


def test_hpa_goes_down_to_the_highest_wish_of_five_minutes():
    policy = Hpa(100, CEILING)
    found = [policy.decide(at(15, running_requests=240))["decode"]]
    found += [policy.decide(at(now_s))["decode"] for now_s in range(30, 346, 15)]
    # What was at first holds 300 s, as does the wish for three.
    assert found[:20] == [4] * 20
    assert found[20] == 1


def test_kedas_law_credits_what_is_warming_and_holds_in_between():
    assert desired(1.1, 4, 4) == 8
    assert desired(1.1, 4, 2) == 4, "half is warming: the ask is covered"
    assert desired(0.5, 4, 4) == 4
    assert desired(0.3, 4, 4) == 3
    assert desired(0.0, 4, 4) == 0


def test_keda_waits_for_thirty_seconds_of_wishes_before_it_goes_up():
    policy = KedaSlo(Slo(), CEILING)
    slow = {"prefilled_p90_ms": 2200.0, "tpot_p90_ms": 25.0}
    assert policy.decide(at(15, prefilled_p90_ms=1000.0, tpot_p90_ms=25.0))["prefill"] == 4
    found = [policy.decide(at(now_s, **slow))["prefill"] for now_s in (30, 45, 60)]
    # The first wish was to stay, and counts for 30 s.
    assert found[0] == 4
    assert found[1] > 4


def test_keda_goes_down_by_one_in_two_minutes():
    policy = KedaSlo(Slo(), CEILING)
    counts, there = [], 4
    for now_s in range(15, 500, 15):
        seen = at(now_s, ready={"prefill": there, "decode": 4})
        there = policy.decide(seen)["prefill"]
        counts.append(there)
    assert counts.index(3) == 12, "three minutes of wishes to go down"
    assert counts.index(2) - counts.index(3) == 8
    assert counts[-1] == 1


def test_each_keda_pool_answers_for_its_own_part_of_ttft():
    policy = KedaSlo(Slo(), CEILING)
    for now_s in (15, 30, 45, 60):
        found = policy.decide(
            at(now_s, prefilled_p90_ms=900.0, joined_p90_ms=3000.0, tpot_p90_ms=25.0)
        )
        if found["decode"] > 4:
            break
    assert found == {"prefill": 4, "decode": 8}


@pytest.fixture
def dynamo():
    return Dynamo(load_profile(None), Machine(), Slo())


def traffic(now_s, rate, **seen):
    """Five seconds of prompts of 4,000 tokens and answers of 500."""
    count = rate * 5
    return at(
        now_s,
        arrived_requests=count,
        prompt_tokens=4000.0 * count,
        finished_requests=count,
        output_tokens=500.0 * count,
        **seen,
    )


def test_dynamos_floor_is_the_last_intervals_rate_over_what_an_engine_does(dynamo):
    for number in range(1, 37):
        dynamo.decide(traffic(5.0 * number, 30, queued_requests=0))
    found = dynamo.decide(traffic(185, 30))
    # A prompt of 4,000 tokens takes 84 ms: 30 a second need 2.5 instances.
    assert found["prefill"] == 3
    # 246 sequences of 4,250 tokens fit, a step takes 34 ms: 14.5 requests a second each.
    assert found["decode"] == 3


def test_dynamo_goes_one_up_while_all_engines_are_predicted_to_break_the_sla(dynamo):
    assert dynamo.decide(traffic(5, 1, queued_requests=200))["prefill"] == 5
    warming = {"prefill": 1, "decode": 0}
    assert dynamo.decide(traffic(10, 1, queued_requests=400, warming=warming))["prefill"] == 5


def test_dynamo_goes_one_down_a_step_to_the_floor_where_the_rest_would_do(dynamo):
    for number in range(1, 37):
        dynamo.decide(traffic(5.0 * number, 1))
    assert dynamo.decide(traffic(185, 1))["decode"] == 3
    two = {"prefill": 2, "decode": 2}
    full = dynamo.decide(traffic(190, 1, kv_share=0.6, ready=two))
    assert full["decode"] == 2, "KV of two would not fit one"
