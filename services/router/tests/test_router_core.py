"""A request from its arrival to its end: placed, failed, placed again, given up."""

from typing import Any

from argosy.domain.demand import Slo
from argosy.router.core import effects, events
from argosy.router.core.placement.schedule import ROUND_MAX

MS, S = 1_000, 1_000_000


def test_two_of_five_decode_workers_never_used(new_router: Any) -> None:
    router = new_router()
    names = [f"decode-{number}" for number in range(5)]
    for name in names:
        router.join(name)
    used = [router.arrive(f"r{number}").dispatch.decode for number in range(10)]
    assert sorted(used) == sorted(2 * names)


def test_an_instance_is_given_at_most_twice_what_it_runs_at_once(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=2)
    placed = [bool(router.arrive(f"r{number}").sent) for number in range(5)]
    assert placed == [True, True, True, True, False]


def test_a_request_only_goes_to_instances_of_its_model(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", model="other")
    router.join("decode-1", model="m")
    router.load("decode-1", running=1)
    assert router.arrive("a", model="m").decoded_at == ["decode-1"]


def test_a_model_that_is_full_does_not_hold_up_another(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", model="k", max_running=1)
    router.load("decode-0", running=2)
    router.join("prefill-0", "prefill", model="m")
    router.arrive("a", model="k")
    router.arrive("b", model="m")
    assert router.join("decode-1", model="m").decoded_at == ["decode-1"]
    assert router.queued == ["a"]


def test_a_model_asleep_does_not_hold_up_another_however_many_wait_for_it(new_router: Any) -> None:
    router = new_router(queue_limit=2 * ROUND_MAX)
    router.join("decode-0", model="k")
    router.leave("decode-0", reason="asleep")
    router.join("decode-1", model="m")
    for number in range(ROUND_MAX + 1):
        router.arrive(f"k{number}", model="k")
    assert router.arrive("a", model="m").sent == ["a"]


def test_an_address_goes_with_every_dispatch(new_router: Any) -> None:
    router = new_router(policy="round_robin")
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    dispatch = router.arrive("a").dispatch
    assert (dispatch.prefill, dispatch.prefill_address) == ("prefill-0", "prefill-0:e1")
    assert (dispatch.decode, dispatch.decode_address) == ("decode-0", "decode-0:e1")


def test_a_placed_request_has_no_timer_left(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a")
    assert router.timers == {}


def test_a_failed_attempt_is_placed_elsewhere_as_the_next_one(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.join("decode-1")
    assert router.arrive("a").decoded_at == ["decode-0"]
    dispatch = router.fail("a", at="decode-0").dispatch
    assert (dispatch.decode, dispatch.attempt) == ("decode-1", 1)


def test_lost_kv_faults_the_attempt_and_not_the_instance(new_router: Any) -> None:
    router = new_router(policy="least_loaded")
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.arrive("a")
    dispatch = router.fail("a", at="prefill-0", reason="KV_LOST").dispatch
    assert (dispatch.prefill, dispatch.decode, dispatch.attempt) == ("prefill-0", "decode-0", 1)


def test_an_attempt_that_failed_leaves_nothing_in_the_ledger(new_router: Any) -> None:
    router = new_router(policy="least_loaded", attempts_max=1)
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.arrive("a")
    router.fail("a", at="prefill-0", reason="KV_LOST")
    for name in ("decode-0", "prefill-0"):
        assert (router.rank(name).requests, router.rank(name).kv_blocks) == (0, 0)


def test_what_failed_goes_ahead_of_later_arrivals_in_its_old_order(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=1)
    for name in "abcd":
        router.arrive(name)
        router.pass_time(MS)
    router.pass_time(S)
    router.fail("a", at="decode-0")
    router.fail("b", at="decode-0")
    assert sorted(router.queued) == ["a", "b", "c", "d"]
    again = router.join("decode-0", epoch="e2", max_running=1).dispatches
    assert [(d.request_id, d.attempt) for d in again] == [("a", 1), ("b", 1)]


def test_the_failure_of_an_attempt_that_is_over_is_ignored(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.join("decode-1")
    router.arrive("a")
    router.fail("a", at="decode-0")
    before = router.snapshot()
    assert router.fail("a", at="decode-1", attempt=0) == []
    assert router.snapshot() == before


def test_after_too_many_attempts_the_caller_hears_of_the_last_failure(new_router: Any) -> None:
    router = new_router(attempts_max=2)
    router.join("decode-0")
    router.arrive("a")
    router.fail("a", at="decode-0", reason="KV_LOST")
    refused = router.fail("a", at="decode-0", reason="KV_LOST", attempt=1).one(effects.Reject)
    assert (refused.reason, "decode-0: it broke" in refused.message) == ("NO_INSTANCE", True)
    assert router.state.requests == {}


def test_room_left_by_a_request_given_up_goes_to_the_next(new_router: Any) -> None:
    router = new_router(attempts_max=1)
    router.join("decode-0", max_running=1)
    for name in "abc":
        router.arrive(name)
    router.pass_time(S)
    assert router.fail("a", at="decode-0", reason="KV_LOST").decoded_at == ["decode-0"]


def test_an_answer_cut_off_after_a_long_time_still_waits_for_a_restart(new_router: Any) -> None:
    """The wait for an instance counts from the failure, not from the arrival."""
    router = new_router()
    router.join("decode-0")
    router.arrive("a", within_us=600 * S)
    router.pass_time(200 * S)
    router.fail("a", at="decode-0")
    assert router.pass_time(50 * S).all(effects.Reject) == []
    assert router.join("decode-0", epoch="e2").decoded_at == ["decode-0"]


def test_a_request_that_ends_gives_its_room_to_the_next(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=1)
    for name in "abc":
        router.arrive(name)
    router.pass_time(S)
    assert router.end("a").decoded_at == ["decode-0"]


def test_a_caller_that_hangs_up_while_queued_leaves_nothing_behind(new_router: Any) -> None:
    router = new_router()
    router.join("prefill-0", "prefill")
    router.arrive("a")
    router.end("a")
    assert (router.state.requests, router.state.queued_requests) == ({}, 0)
    assert (router.state.queued_by_band, router.state.tenants[""].waiting) == ({}, {})
    assert not any(key.startswith("wait:") for key in router.timers)


def test_the_end_of_a_request_nobody_knows_changes_nothing(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    before = router.snapshot()
    assert router.end("never-came", output_tokens=5) == []
    assert router.feed(events.FirstTokenSeen, request_id="never-came") == []
    assert router.snapshot() == before


def test_news_of_a_rank_that_a_restart_took_away_changes_nothing(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=4, max_running=9)
    ranks = {name: router.arrive(name).dispatch.decode_rank for name in "abcd"}
    assert max(ranks.values()) == 3
    router.join("decode-0", epoch="e2", dp_ranks=1, max_running=9)
    for name in "abcd":
        router.feed(events.FirstTokenSeen, request_id=name)
    router.fail("a", at="decode-0", reason="KV_LOST")
    for name in "abcd":
        router.end(name)
    assert router.state.requests == {}
    assert router.instance("decode-0").requests == 0


def test_a_direct_request_is_counted_but_leaves_no_request_behind(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    assert router.arrive("a", direct=True).decoded_at == ["decode-0"]
    assert router.state.requests == {}
    assert router.instance("decode-0").requests == 1


def test_a_direct_caller_says_which_instance_it_could_not_reach(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.join("decode-1")
    rerouted = router.arrive(
        "a", attempt=1, direct=True, failed_instance="decode-0", failed_address="decode-0:e1"
    )
    assert rerouted.decoded_at == ["decode-1"]
    assert not router.instance("decode-0").live


def test_a_direct_request_sent_again_to_where_it_was_weighs_once(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a", direct=True)
    router.arrive("a", attempt=1, direct=True)
    rank = router.rank("decode-0")
    assert (rank.requests, rank.kv_blocks) == (1, 4)


def test_a_direct_callers_news_of_an_older_epoch_changes_nothing(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2")
    router.arrive(
        "a", attempt=1, direct=True, failed_instance="decode-0", failed_address="decode-0:e1"
    )
    assert router.instance("decode-0").live


def test_objectives_are_those_of_the_newest_fleet_file(new_router: Any) -> None:
    router = new_router()
    assert router.state.limits.slo == Slo()
    for generation, tpot_ms in ((3, 80), (2, 20), (3, 90)):
        router.feed(events.ObjectivesChanged, generation=generation, slo=Slo(1000, tpot_ms))
    assert router.state.limits.slo == Slo(1000, 90)
