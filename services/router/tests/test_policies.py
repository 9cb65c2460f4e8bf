"""Which ranks each policy picks: by its formula, and never one that cannot serve."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.router.policies import new_core, policy_names

MS, S = 1_000, 1_000_000
PROMPT = [*range(1, 11)]
"""Blocks of 320 tokens."""


def pair(new_router: Any, policy: str, **fields: Any) -> Any:
    router = new_router(policy=policy)
    for name in ("decode-0", "decode-1"):
        router.join(name, **({"max_running": 50} | fields))
    return router


# -- round_robin


def test_round_robin_takes_each_in_turn_whatever_it_has_to_do(new_router: Any) -> None:
    router = pair(new_router, "round_robin")
    router.join("decode-2", max_running=50)
    router.load("decode-1", running=40, tokens=9000)
    placed = [router.arrive(str(number)).dispatch.decode for number in range(6)]
    assert placed == 2 * ["decode-0", "decode-1", "decode-2"]


def test_round_robin_takes_prefill_and_decode_in_turn_each(new_router: Any) -> None:
    router = pair(new_router, "round_robin")
    for number in range(3):
        router.join(f"prefill-{number}", "prefill")
    placed = [router.arrive(str(number)).dispatch for number in range(6)]
    assert [d.prefill for d in placed] == 2 * ["prefill-0", "prefill-1", "prefill-2"]
    assert [d.decode for d in placed] == 3 * ["decode-0", "decode-1"]


# -- least_loaded


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"tokens": 500, "running": 1}, {"tokens": 400, "running": 9}),
        ({"running": 3}, {"running": 2}),
        ({"running": 1, "kv": 60}, {"running": 1, "kv": 20}),
    ],
)
def test_least_loaded_weighs_prompts_then_requests_then_kv(
    new_router: Any, first: dict[str, int], second: dict[str, int]
) -> None:
    router = pair(new_router, "least_loaded")
    router.load("decode-0", **first)
    router.load("decode-1", **second)
    assert router.arrive("a").decoded_at == ["decode-1"]


def test_least_loaded_prefills_where_the_fewest_tokens_wait(new_router: Any) -> None:
    router = pair(new_router, "least_loaded")
    router.join("prefill-0", "prefill")
    router.join("prefill-1", "prefill")
    router.load("prefill-0", tokens=500)
    placed = [router.arrive(str(tokens), tokens).dispatch.prefill for tokens in (400, 300, 101)]
    assert placed == ["prefill-1", "prefill-1", "prefill-0"]


def test_least_loaded_takes_the_nearer_of_equal_prefills(new_router: Any) -> None:
    router = new_router(policy="least_loaded")
    router.join("decode-0", node="n2")
    router.join("prefill-0", "prefill", node="n1")
    router.join("prefill-1", "prefill", node="n2")
    assert router.arrive("a").prefilled_at == ["prefill-1"]


# -- lmetric


def test_lmetric_takes_the_least_of_new_tokens_times_batch(new_router: Any) -> None:
    router = pair(new_router, "lmetric", kv_blocks=1000)
    router.load("decode-0", running=3)  # (1 + 320) * (1 + 3) = 1284
    router.load("decode-1", tokens=900)  # (1 + 900 + 320) * (1 + 0) = 1221
    assert router.arrive("a", 320).decoded_at == ["decode-1"]


def test_lmetric_counts_cached_tokens_as_none(new_router: Any) -> None:
    router = pair(new_router, "lmetric", kv_blocks=1000)
    router.store("decode-0", PROMPT[:9])
    router.load("decode-0", running=3)  # (1 + 32) * (1 + 3) = 132
    assert router.arrive("a", 320, blocks=PROMPT).decoded_at == ["decode-0"]
    router.load("decode-0", running=30)  # (1 + 32) * (1 + 31) = 1056, over 321
    assert router.arrive("b", 320, blocks=PROMPT).decoded_at == ["decode-1"]


def test_lmetric_decodes_where_the_batch_is_least(new_router: Any) -> None:
    router = pair(new_router, "lmetric")
    router.join("prefill-0", "prefill")
    router.join("prefill-1", "prefill")
    router.load("decode-0", running=2, kv=0)
    router.load("decode-1", running=1, kv=50)
    router.load("prefill-0", tokens=10)
    dispatch = router.arrive("a").dispatch
    assert (dispatch.prefill, dispatch.decode) == ("prefill-1", "decode-1")


# -- dynamo_kv_cost


def test_kv_cost_adds_blocks_to_prefill_and_blocks_held(new_router: Any) -> None:
    router = pair(new_router, "dynamo_kv_cost", kv_blocks=1000)
    router.load("decode-0", kv=11)  # (0 + 320) / 32 + 11 + 10 = 31
    router.load("decode-1", tokens=320)  # (320 + 320) / 32 + 0 + 10 = 30
    assert router.arrive("a", 320).decoded_at == ["decode-1"]


def test_kv_cost_gives_credit_for_cached_blocks(new_router: Any) -> None:
    router = pair(new_router, "dynamo_kv_cost", kv_blocks=1000)
    router.store("decode-0", PROMPT[:9])
    router.load("decode-0", kv=8)  # 1 + 8 + 10 = 19, under 20
    assert router.arrive("a", 320, blocks=PROMPT).decoded_at == ["decode-0"]


def test_kv_cost_decodes_where_the_fewest_blocks_are_held(new_router: Any) -> None:
    router = pair(new_router, "dynamo_kv_cost")
    router.join("prefill-0", "prefill")
    router.join("prefill-1", "prefill")
    router.store("prefill-1", PROMPT)
    router.load("decode-0", running=1, kv=20)
    router.load("decode-1", running=9, kv=10)
    dispatch = router.arrive("a", 320, blocks=PROMPT).dispatch
    assert (dispatch.prefill, dispatch.decode) == ("prefill-1", "decode-1")


# -- every policy

loads = st.tuples(
    st.sampled_from(["decode", "decode", "prefill", "flexible"]),
    st.sampled_from(["m", "m", "k"]),
    st.sampled_from(["live", "live", "left", "failed"]),
    st.integers(0, 5),
    st.integers(0, 110),
)


@pytest.mark.parametrize("policy", policy_names())
@given(fleet=st.lists(loads, max_size=8), tokens=st.integers(1, 3300))
def test_no_policy_chooses_what_is_not_live_or_full_or_of_another_model(
    new_router: Any, policy: str, fleet: list[tuple[str, str, str, int, int]], tokens: int
) -> None:
    router = new_router(policy=policy)
    router.join("known", model="m")
    router.leave("known")
    fit: set[str] = set()
    room: set[str] = set()
    for number, (role, model, life, running, kv) in enumerate(fleet):
        name = f"{role}-{number}"
        router.join(name, role, model=model, max_running=2, kv_blocks=100)
        router.load(name, running=running, kv=kv)
        if life == "left":
            router.leave(name)
        elif life == "failed":
            router.instance(name).live = False
        elif model == "m":
            fit.add(name)
            fits = kv + -(-tokens // 32) <= 100 or running == 0
            if role != "prefill" and running < 4 and fits:
                room.add(name)
    router.core = new_core(router.state)
    told = router.arrive("a", tokens)
    for dispatch in told.dispatches:
        assert dispatch.prefill in fit
        assert dispatch.decode in room
    assert bool(told.dispatches) == bool(room)


@pytest.mark.parametrize("policy", policy_names())
def test_every_policy_says_where_and_why(new_router: Any, policy: str) -> None:
    router = pair(new_router, policy)
    dispatch = router.arrive("a", 320, blocks=PROMPT).dispatch
    assert (dispatch.prefill, dispatch.uncached_tokens) == (dispatch.decode, 320)
    assert dispatch.why
    again = router.arrive("b", 320, blocks=PROMPT).dispatch
    assert again.uncached_tokens == (1 if again.prefill == dispatch.prefill else 320)
