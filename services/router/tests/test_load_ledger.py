"""What the router believes of instances' load: reports, what was sent since, and time."""

from typing import Any

import pytest

from argosy.domain.timing import Timing
from argosy.router.core import events

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0))


def test_a_dispatch_counts_until_a_later_report_covers_it(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", timing=TENTH_MS_PER_TOKEN)
    router.arrive("a", tokens=1000)
    instance = router.instance("decode-0")
    router.load("decode-0", running=0)
    assert (instance.requests, router.rank("decode-0").prefill_tokens) == (1, 1000)
    router.pass_time(100 * MS)
    router.load("decode-0", running=1, tokens=4)
    assert (instance.requests, router.rank("decode-0").prefill_tokens) == (1, 4)


@pytest.mark.parametrize("skew_us", [-3600 * S, 3600 * S])
def test_clocks_that_disagree_change_nothing(new_router: Any, skew_us: int) -> None:
    router = new_router()
    router.join("decode-0")
    router.load("decode-0", lag_us=-skew_us)
    router.pass_time(S)
    router.arrive("a")
    instance = router.instance("decode-0")
    router.load("decode-0", running=0, lag_us=-skew_us)
    assert instance.requests == 1
    router.fail("a", at="decode-0")
    router.pass_time(10 * MS)
    router.load("decode-0", lag_us=20 * MS - skew_us)
    assert not instance.live
    router.load("decode-0", lag_us=-skew_us)
    assert instance.live


def test_a_late_report_does_not_undo_a_newer_one(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.load("decode-0", running=3)
    router.load("decode-0", running=1, lag_us=50 * MS)
    assert router.rank("decode-0").running_requests == 3


def test_each_rank_has_its_own_load(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=2)
    loads = [events.RankLoad(1, 2, 300, 40), events.RankLoad(5, 0, 0, 7)]
    router.load_ranks("decode-0", loads)
    first, second = router.instance("decode-0").ranks
    assert (first.requests, first.prefill_tokens, first.kv_blocks) == (3, 300, 40)
    assert (second.requests, second.prefill_tokens, second.kv_blocks) == (5, 0, 7)


def test_a_report_of_fewer_or_more_ranks_than_announced_is_taken_as_far_as_it_goes(
    new_router: Any,
) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=2)
    router.load_ranks("decode-0", [events.RankLoad(1, 0, 0, 0)] * 3)
    router.load_ranks("decode-0", [events.RankLoad(2, 0, 0, 0)])
    router.load_ranks("decode-0", [])
    assert [rank.requests for rank in router.instance("decode-0").ranks] == [2, 1]


def test_kv_of_what_was_sent_is_spoken_for_until_it_ends(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a", tokens=100)
    assert router.rank("decode-0").kv_blocks == 4
    router.end("a")
    assert router.rank("decode-0").kv_blocks == 0


def test_a_request_prefilled_elsewhere_is_expected_until_its_first_token(new_router: Any) -> None:
    router = new_router(policy="least_loaded")
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.arrive("a", tokens=100)
    decode, prefill = router.rank("decode-0"), router.rank("prefill-0")
    assert (decode.requests, decode.kv_blocks, decode.prefill_tokens) == (1, 4, 0)
    assert (prefill.requests, prefill.kv_blocks, prefill.prefill_tokens) == (1, 4, 100)
    router.feed(events.FirstTokenSeen, request_id="a")
    assert (decode.requests, decode.kv_blocks) == (0, 0)


def test_dispatches_expire_when_no_report_ever_covers_them(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=False)
    router.join("decode-0", max_running=1)
    for name in "abc":
        router.arrive(name)
    assert router.queued == ["c"]
    assert router.pass_time(29 * S).sent == []
    assert router.pass_time(2 * S).decoded_at == ["decode-0"]


def test_planner_stuck_when_signals_vanish(new_router: Any) -> None:
    """The last report said full, and no other comes: it must not hold for ever."""
    router = new_router()
    router.feed(events.BusChanged, connected=False)
    router.join("decode-0", max_running=1)
    router.load("decode-0", running=2)
    router.arrive("a")
    assert router.pass_time(29 * S).sent == []
    assert router.pass_time(2 * S).decoded_at == ["decode-0"]


def test_a_queue_reported_once_and_never_again_does_not_hold_for_ever(new_router: Any) -> None:
    """It would take longer than the request may wait; a report is not believed for so long."""
    router = new_router()
    router.feed(events.BusChanged, connected=False)
    router.join("decode-0", max_running=100)
    router.load("decode-0", running=1, tokens=4_000_000)
    router.arrive("a")
    assert router.pass_time(29 * S).sent == []
    assert router.pass_time(3 * S).sent == ["a"]


def test_work_sent_is_believed_done_when_its_time_is_over_reports_or_not(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", timing=TENTH_MS_PER_TOKEN, tokens_per_step=1000, max_running=9)
    router.arrive("a", tokens=2500)
    router.pass_time(240 * MS)
    assert router.arrive("b").sent == []
    assert router.pass_time(10 * MS).sent == ["b"]


def test_an_instance_that_says_it_is_idle_is_sent_what_waits_for_it(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", timing=TENTH_MS_PER_TOKEN, max_running=9)
    router.arrive("a", tokens=4000)
    router.pass_time(25 * MS)
    router.load("decode-0", running=1, tokens=4000)
    assert router.arrive("b").sent == []
    idle = router.feed(
        events.IdlePredicted, instance="decode-0", epoch="e1", idle_at_us=router.now_us
    )
    assert idle.sent == ["b"]


def test_an_idle_time_of_another_epoch_changes_nothing(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2")
    router.load("decode-0", tokens=4000, epoch="e2")
    before = router.snapshot()
    assert (
        router.feed(events.IdlePredicted, instance="decode-0", epoch="e1", idle_at_us=router.now_us)
        == []
    )
    assert router.snapshot() == before


@pytest.mark.parametrize("idle_in_us", [-3600 * S, 3600 * S])
def test_an_absurd_idle_time_freezes_nothing(new_router: Any, idle_in_us: int) -> None:
    router = new_router()
    router.join("decode-0", timing=TENTH_MS_PER_TOKEN, max_running=9)
    router.load("decode-0", tokens=4000)
    router.feed(
        events.IdlePredicted, instance="decode-0", epoch="e1", idle_at_us=router.now_us + idle_in_us
    )
    router.pass_time(MS)
    assert [*router.arrive("a").sent, *router.pass_time(2 * S).sent] == ["a"]


def test_the_length_of_steps_is_smoothed_and_bounded(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.load("decode-0", step_us=100 * MS)
    router.load("decode-0", step_us=200 * MS)
    assert router.instance("decode-0").step_us == pytest.approx(120 * MS)
    for _ in range(100):
        router.load("decode-0", step_us=3600 * S)
    assert router.instance("decode-0").step_us <= 2 * S
