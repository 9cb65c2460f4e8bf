"""Argosy's own policy: the least cost in seconds, and what must never follow from it."""

from collections import Counter
from typing import Any

import pytest

from argosy.domain.timing import Timing

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0), transfer_ms=0)
COSTLY_STARTS = Timing(prefill_ms=(10, 0.1, 0), transfer_ms=5)
PREFIX = [*range(1, 101)]
"""Blocks of 3,200 tokens: 320 ms to compute."""


def fleet(new_router: Any, instances: int, **fields: Any) -> Any:
    router = new_router(queue_limit=10_000)
    usual = {
        "timing": TENTH_MS_PER_TOKEN,
        "max_running": 1000,
        "kv_blocks": 1_000_000,
        "context": 100_000,
    }
    for number in range(instances):
        router.join(f"decode-{number}", **(usual | fields))
    return router


def busy(router: Any, name: str, us: int) -> None:
    router.load(name, running=1, tokens=us // 100)
    router.pass_time(1)


# -- prefixes


def test_a_prompt_goes_where_most_of_it_is_cached(new_router: Any) -> None:
    router = fleet(new_router, 3)
    router.store("decode-1", PREFIX[:50])
    router.store("decode-2", PREFIX)
    assert router.arrive("a", 3300, blocks=PREFIX).decoded_at == ["decode-2"]


def test_a_prompt_waits_for_its_prefix_while_that_is_quicker(new_router: Any) -> None:
    router = fleet(new_router, 2)
    router.store("decode-1", PREFIX)
    busy(router, "decode-1", 200 * MS)
    assert router.arrive("a", 3300, blocks=PREFIX).sent == []
    assert router.pass_time(200 * MS).decoded_at == ["decode-1"]


def test_a_hot_prefix_is_replicated_once_waiting_costs_more_than_computing(new_router: Any) -> None:
    router = fleet(new_router, 2)
    router.store("decode-1", PREFIX)
    busy(router, "decode-1", 500 * MS)
    assert router.arrive("a", 3300, blocks=PREFIX).decoded_at == ["decode-0"]
    busy(router, "decode-0", 1000 * MS)
    router.pass_time(500 * MS)
    held = router.state.index.match(PREFIX)
    assert held == {"decode-0/0": 100, "decode-1/0": 100}


def test_one_shared_system_prompt_does_not_pin_all_traffic_to_one_instance(new_router: Any) -> None:
    router = fleet(new_router, 4)
    router.store("decode-0", PREFIX)
    told = []
    for number in range(200):
        tail = [10_000 + 20 * number + block for block in range(15)]
        told += router.arrive(str(number), 3700, blocks=PREFIX + tail).dispatches
        told += router.pass_time(16 * MS).dispatches
    used = Counter(dispatch.decode for dispatch in told)
    assert len(used) == 4
    assert max(used.values()) <= 0.4 * len(told)


def test_cold_prompts_do_not_all_go_to_the_emptiest_cache(new_router: Any) -> None:
    router = fleet(new_router, 4)
    for name in ("decode-1", "decode-2", "decode-3"):
        for number in range(20):
            router.store(name, range(1000 * number, 1000 * number + 100), number + 1)
        router.rank(name).written_tokens = 64_000.0
        router.rank(name).written_us = router.now_us
    placed = Counter()
    for number in range(40):
        placed.update(router.arrive(f"cold-{number}", 1000).decoded_at)
        placed.update(router.pass_time(30 * MS).decoded_at)
    placed.update(router.pass_time(S).decoded_at)
    assert placed.total() == 40
    assert placed["decode-0"] <= 20


def test_cold_prompts_one_at_a_time_go_to_each_in_turn(new_router: Any) -> None:
    router = fleet(new_router, 4)
    placed = []
    for number in range(8):
        placed += router.arrive(str(number), 1000, max_tokens=1).decoded_at
        router.pass_time(S)
        router.end(str(number))
    assert sorted(placed) == sorted(2 * [f"decode-{number}" for number in range(4)])


# -- local or apart


def disaggregated(new_router: Any, **fields: Any) -> Any:
    router = new_router()
    usual = {"timing": COSTLY_STARTS, "max_running": 100, "kv_blocks": 1000, "context": 100_000}
    router.join("decode-0", **(usual | fields))
    router.join("prefill-0", "prefill", **(usual | fields))
    return router


@pytest.mark.parametrize(("tokens", "prefill"), [(10, "decode-0"), (3000, "prefill-0")])
def test_short_prompts_are_prefilled_where_they_decode_and_long_ones_apart(
    new_router: Any, tokens: int, prefill: str
) -> None:
    router = disaggregated(new_router)
    dispatch = router.arrive("a", tokens).dispatch
    assert (dispatch.prefill, dispatch.decode) == (prefill, "decode-0")


def test_the_busier_the_decodes_the_shorter_the_prompts_that_go_apart(new_router: Any) -> None:
    def shortest_apart(running: int, kv: int) -> int:
        for tokens in range(1, 1000, 10):
            router = disaggregated(new_router)
            router.load("decode-0", running=running, kv=kv)
            if router.arrive("a", tokens).prefilled_at == ["prefill-0"]:
                return tokens
        return 1000

    idle, some, many = shortest_apart(0, 0), shortest_apart(5, 200), shortest_apart(50, 600)
    assert 1000 > idle >= some >= many
    assert idle > many


def test_a_long_prompt_that_decode_has_cached_stays_there(new_router: Any) -> None:
    router = disaggregated(new_router)
    router.store("decode-0", PREFIX)
    assert router.arrive("a", 3210, blocks=PREFIX).prefilled_at == ["decode-0"]


def test_without_a_live_prefill_instance_decode_prefills(new_router: Any) -> None:
    router = disaggregated(new_router)
    router.leave("prefill-0")
    assert router.arrive("a", 3000).prefilled_at == ["decode-0"]


def test_a_prefill_instance_with_a_long_queue_is_passed_over(new_router: Any) -> None:
    router = disaggregated(new_router)
    router.load("prefill-0", tokens=50_000)
    router.pass_time(1)
    assert router.arrive("a", 3000).prefilled_at == ["decode-0"]


def test_kv_goes_to_the_nearer_of_two_that_are_alike(new_router: Any) -> None:
    router = new_router()
    slow = Timing(transfer_ms=1, transfer_gb_per_s=(64, 4, 1))
    for name, node in (("prefill-0", "n1"), ("prefill-1", "n2")):
        router.join(name, "prefill", node=node, timing=slow, max_running=9)
    router.join("decode-0", node="n2", timing=slow, max_running=9)
    assert router.arrive("a", 3000).prefilled_at == ["prefill-1"]


def test_free_instances_prefill_for_one_another_when_that_is_cheaper(new_router: Any) -> None:
    """One has room to decode and is prefilling, the other the reverse."""
    router = new_router()
    for name in ("free-0", "free-1"):
        router.join(
            name,
            "flexible",
            timing=Timing(prefill_ms=(0, 0.1, 0)),
            max_running=99,
            kv_blocks=1000,
            context=100_000,
        )
    router.load("free-0", tokens=4000)
    router.load("free-1", kv=850)
    router.pass_time(1)
    dispatch = router.arrive("a", 3000, max_tokens=1000).dispatch
    assert (dispatch.prefill, dispatch.decode) == ("free-1", "free-0")


def test_a_decode_instance_does_not_prefill_for_another(new_router: Any) -> None:
    router = new_router()
    for name in ("decode-0", "decode-1"):
        router.join(
            name,
            timing=Timing(prefill_ms=(0, 0.1, 0)),
            max_running=99,
            kv_blocks=1000,
            context=100_000,
        )
    router.load("decode-0", tokens=4000)
    router.load("decode-1", kv=850)
    router.pass_time(1)
    for dispatch in [*router.arrive("a", 3000).dispatches, *router.pass_time(S).dispatches]:
        assert dispatch.prefill == dispatch.decode


def test_in_a_mixed_fleet_only_free_instances_prefill_for_others(new_router: Any) -> None:
    router = new_router()
    for name, role in (("a-flexible", "flexible"), ("b-decode", "decode")):
        router.join(
            name,
            role,
            timing=Timing(prefill_ms=(0, 0.1, 0)),
            max_running=99,
            kv_blocks=1000,
            context=100_000,
        )
    router.load("a-flexible", tokens=4000)
    router.load("b-decode", kv=850)
    router.pass_time(1)
    told = [*router.arrive("a", 3000).dispatches, *router.pass_time(S).dispatches]
    assert [(d.prefill == d.decode or d.prefill == "a-flexible") for d in told] == [True]
