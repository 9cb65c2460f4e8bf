from typing import Any, TypeVar

import msgspec
import pytest

from argosy.mesh.core import CancelTimer, Effect, SetTimer, TimerFired
from argosy.router.core import effects as do
from argosy.router.core import events as on
from argosy.router.core.ledger import FORGET_US
from argosy.router.core.router import RouterCore
from argosy.router.core.state import RouterState

MS = 1_000
S = 1_000_000
START_US = 1_700_000_000 * S
E = TypeVar("E", bound=Effect)


class Router:
    """A router's core with a clock; its timers fire as `pass_time` goes by them."""

    def __init__(self, **limits: int) -> None:
        usual = {
            "queue_limit": 8, "attempts_max": 3, "disaggregate_min_tokens": 64,
            "stale_us": 3 * S, "ledger_us": 30 * S, "wait_us": 60 * S,
        }  # fmt: skip
        self.state = RouterState(**(usual | limits))
        self.core = RouterCore(self.state)
        self.now_us = START_US
        self.timers: dict[str, int] = {}

    def feed(self, kind: Any, *fields: Any, **named: Any) -> list[Effect]:
        effects = self.core.step(kind(self.now_us, *fields, **named))
        for effect in effects:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.at_us
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
        return effects

    def pass_time(self, us: int) -> list[Effect]:
        until_us, found = self.now_us + us, []
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            found += self.feed(TimerFired, key)
        self.now_us = until_us
        return found

    def join(
        self, name: str, role: str = "decode", *, epoch: str = "e1", address: str = "",
        node: str = "n1", model: str = "m", context: int = 4096, max_running: int = 2,
        ago_us: int = 0,
    ) -> list[Effect]:  # fmt: skip
        return self.feed(
            on.InstanceJoined, name, epoch, role, address or f"{name}:{epoch}", node, model,
            100, 32, context, max_running, self.now_us - ago_us,
        )  # fmt: skip

    def load(
        self, name: str, running: int = 0, *, tokens: int = 0, kv: int = 0, lag_us: int = 0,
        epoch: str = "e1",
    ) -> list[Effect]:  # fmt: skip
        at_us = self.now_us - lag_us
        return self.feed(on.LoadReported, name, epoch, running, 0, tokens, kv, at_us)

    def arrive(
        self, request_id: str, tokens: int = 100, *, model: str = "m", within_us: int = 600 * S,
        **fields: Any,
    ) -> list[Effect]:  # fmt: skip
        deadline_us = self.now_us + within_us
        return self.feed(on.RequestArrived, request_id, model, tokens, 16, deadline_us, **fields)

    def fail(
        self, request_id: str, at: str, reason: str = "INSTANCE_LOST", attempt: int = 0
    ) -> list[Effect]:
        return self.feed(on.AttemptFailed, request_id, attempt, reason, "it broke", at, 100)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.state)


def all_of(kind: type[E], effects: list[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def one(kind: type[E], effects: list[Effect]) -> E:
    (found,) = all_of(kind, effects)
    return found


def decoded_at(effects: list[Effect]) -> list[str]:
    return [dispatch.decode for dispatch in all_of(do.Dispatch, effects)]


# -- who serves


def test_least_loaded_decode_instance_is_chosen() -> None:
    router = Router()
    router.join("decode-0", max_running=4)
    router.join("decode-1", max_running=4)
    router.load("decode-0", running=3)
    router.load("decode-1", running=2)
    assert decoded_at(router.arrive("a")) == ["decode-1"]


def test_load_is_weighed_by_what_an_instance_can_take() -> None:
    router = Router()
    router.join("decode-0", max_running=2)
    router.join("decode-1", max_running=32)
    router.load("decode-0", running=1)
    router.load("decode-1", running=8)
    assert decoded_at(router.arrive("a")) == ["decode-1"]


def test_equal_loads_go_to_the_instance_with_the_most_kv_free() -> None:
    router = Router()
    router.join("decode-0")
    router.join("decode-1")
    router.load("decode-0", kv=60)
    router.load("decode-1", kv=20)
    assert decoded_at(router.arrive("a")) == ["decode-1"]


def test_two_of_five_decode_workers_never_used() -> None:
    router = Router()
    names = [f"decode-{number}" for number in range(5)]
    for name in names:
        router.join(name)
    used = [decoded_at(router.arrive(f"r{number}"))[0] for number in range(10)]
    assert sorted(used) == sorted(2 * names)


def test_an_instance_is_given_at_most_twice_what_it_runs_at_once() -> None:
    router = Router()
    router.join("decode-0", max_running=2)
    placed = [bool(decoded_at(router.arrive(f"r{number}"))) for number in range(5)]
    assert placed == [True, True, True, True, False]


def test_a_request_only_goes_to_instances_of_its_model() -> None:
    router = Router()
    router.join("decode-0", model="other")
    router.join("decode-1", model="m")
    router.load("decode-1", running=1)
    assert decoded_at(router.arrive("a", model="m")) == ["decode-1"]


def test_a_model_that_is_full_does_not_hold_up_another() -> None:
    router = Router()
    router.join("decode-0", model="k", max_running=1)
    router.load("decode-0", running=2)
    router.join("prefill-0", "prefill", model="m")
    router.arrive("a", model="k")
    router.arrive("b", model="m")
    assert decoded_at(router.join("decode-1", model="m")) == ["decode-1"]
    assert router.state.queue == ["a"]


def test_pd_silently_never_disaggregating() -> None:
    router = Router()
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    dispatch = one(do.Dispatch, router.arrive("a", tokens=64))
    assert (dispatch.prefill, dispatch.prefill_address) == ("prefill-0", "prefill-0:e1")
    assert (dispatch.decode, dispatch.decode_address) == ("decode-0", "decode-0:e1")


def test_a_short_prompt_is_prefilled_by_decode_itself() -> None:
    router = Router()
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    dispatch = one(do.Dispatch, router.arrive("a", tokens=63))
    assert (dispatch.prefill, dispatch.why) == ("decode-0", "short prompt")


def test_without_a_live_prefill_instance_decode_prefills() -> None:
    router = Router()
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.feed(on.InstanceLeft, "prefill-0", "e1", "stopped")
    dispatch = one(do.Dispatch, router.arrive("a", tokens=2000))
    assert (dispatch.prefill, dispatch.why) == ("decode-0", "no prefill instance is live")


def test_prefill_with_the_fewest_tokens_queued_is_chosen() -> None:
    router = Router()
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.join("prefill-1", "prefill")
    router.load("prefill-0", tokens=500)
    sizes = {f"r{number}": tokens for number, tokens in enumerate((400, 300, 100))}
    chosen = [one(do.Dispatch, router.arrive(name, size)).prefill for name, size in sizes.items()]
    assert chosen == ["prefill-1", "prefill-1", "prefill-0"]


def test_equal_prefill_queues_go_to_the_one_near_decode() -> None:
    router = Router()
    router.join("decode-0", node="n2")
    router.join("prefill-0", "prefill", node="n1")
    router.join("prefill-1", "prefill", node="n2")
    assert one(do.Dispatch, router.arrive("a")).prefill == "prefill-1"


# -- what is believed of instances


def test_a_dispatch_counts_until_a_later_report_covers_it() -> None:
    router = Router()
    router.join("decode-0")
    router.arrive("a", tokens=10)
    instance = router.state.instances["decode-0"]
    router.load("decode-0", running=0)
    assert (instance.requests, instance.prefill_tokens) == (1, 10)
    router.pass_time(100 * MS)
    router.load("decode-0", running=1, tokens=4)
    assert (instance.requests, instance.prefill_tokens) == (1, 4)


@pytest.mark.parametrize("skew_us", [-3600 * S, 3600 * S])
def test_clocks_that_disagree_change_nothing(skew_us: int) -> None:
    router = Router()
    router.join("decode-0")
    router.load("decode-0", lag_us=-skew_us)
    router.pass_time(S)
    router.arrive("a")
    instance = router.state.instances["decode-0"]
    router.load("decode-0", running=0, lag_us=-skew_us)
    assert instance.requests == 1
    router.fail("a", at="decode-0")
    router.pass_time(10 * MS)
    router.load("decode-0", lag_us=20 * MS - skew_us)
    assert not instance.live
    router.load("decode-0", lag_us=-skew_us)
    assert instance.live


def test_a_report_of_another_epoch_changes_nothing() -> None:
    router = Router()
    router.join("decode-0", epoch="e2")
    before = router.snapshot()
    assert router.load("decode-0", running=4, epoch="e1") == []
    assert router.snapshot() == before


def test_a_late_report_does_not_undo_a_newer_one() -> None:
    router = Router()
    router.join("decode-0")
    router.load("decode-0", running=3)
    router.load("decode-0", running=1, lag_us=50 * MS)
    assert router.state.instances["decode-0"].running_requests == 3


def test_a_silent_instance_is_not_used_while_the_bus_is_there() -> None:
    router = Router()
    router.feed(on.BusChanged, True)
    router.join("decode-0")
    router.pass_time(4 * S)
    assert decoded_at(router.arrive("a")) == []
    assert decoded_at(router.load("decode-0")) == ["decode-0"]


def test_a_silent_instance_is_used_while_the_bus_is_away() -> None:
    router = Router()
    router.feed(on.BusChanged, True)
    router.join("decode-0")
    router.feed(on.BusChanged, False)
    router.pass_time(100 * S)
    assert decoded_at(router.arrive("a")) == ["decode-0"]


def test_a_bus_that_comes_back_gives_instances_time_to_speak() -> None:
    router = Router()
    router.feed(on.BusChanged, False)
    router.join("decode-0")
    router.pass_time(100 * S)
    router.feed(on.BusChanged, True)
    router.pass_time(2 * S)
    assert decoded_at(router.arrive("a")) == ["decode-0"]


def test_instances_silent_all_at_once_are_used_for_it_is_the_bus_that_is_gone() -> None:
    router = Router()
    router.feed(on.BusChanged, True)
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.pass_time(100 * S)
    dispatch = one(do.Dispatch, router.arrive("a"))
    assert (dispatch.prefill, dispatch.decode) == ("prefill-0", "decode-0")


def test_an_instance_announced_long_ago_is_used_once_it_is_heard_of() -> None:
    router = Router()
    router.join("decode-0", ago_us=4 * S)
    assert decoded_at(router.arrive("a")) == []
    assert decoded_at(router.load("decode-0")) == ["decode-0"]


def test_an_instance_gone_for_long_is_forgotten_and_its_model_is_not() -> None:
    router = Router()
    router.feed(on.BusChanged, True)
    router.join("decode-0")
    router.feed(on.InstanceLeft, "decode-0", "e1", "scaled away")
    router.pass_time(FORGET_US + S)
    assert (router.state.instances, router.state.gone) == ({}, {})
    assert router.state.models == {"m": 4096}


def test_dispatches_expire_when_no_report_ever_covers_them() -> None:
    router = Router()
    router.feed(on.BusChanged, False)
    router.join("decode-0", max_running=1)
    for name in "abc":
        router.arrive(name)
    assert router.state.queue == ["c"]
    assert decoded_at(router.pass_time(29 * S)) == []
    assert decoded_at(router.pass_time(2 * S)) == ["decode-0"]


def test_planner_stuck_when_signals_vanish() -> None:
    """The last report said full, and no other comes: it must not hold for ever."""
    router = Router()
    router.feed(on.BusChanged, False)
    router.join("decode-0", max_running=1)
    router.load("decode-0", running=2)
    router.arrive("a")
    assert decoded_at(router.pass_time(29 * S)) == []
    assert decoded_at(router.pass_time(2 * S)) == ["decode-0"]


def test_a_failed_instance_is_not_used_until_it_is_heard_of_again() -> None:
    router = Router()
    router.join("decode-0")
    router.arrive("a")
    assert decoded_at(router.fail("a", at="decode-0")) == []
    assert decoded_at(router.load("decode-0", lag_us=10 * MS)) == []
    router.pass_time(MS)
    assert decoded_at(router.load("decode-0")) == ["decode-0"]


def test_a_failed_instance_is_used_once_it_announces_itself_again() -> None:
    router = Router()
    router.join("decode-0")
    router.arrive("a")
    router.fail("a", at="decode-0")
    assert decoded_at(router.join("decode-0", epoch="e2")) == ["decode-0"]


def test_lost_kv_faults_the_attempt_and_not_the_instance() -> None:
    router = Router()
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.arrive("a")
    dispatch = one(do.Dispatch, router.fail("a", at="prefill-0", reason="KV_LOST"))
    assert (dispatch.prefill, dispatch.decode, dispatch.attempt) == ("prefill-0", "decode-0", 1)


@pytest.mark.parametrize("sign_of_life", ["load", "rejoin"])
def test_a_goodbye_is_only_undone_by_a_new_epoch(sign_of_life: str) -> None:
    router = Router()
    router.join("decode-0")
    router.feed(on.InstanceLeft, "decode-0", "e1", "draining")
    router.pass_time(S)
    router.load("decode-0") if sign_of_life == "load" else router.join("decode-0")
    assert decoded_at(router.arrive("a")) == []
    assert decoded_at(router.join("decode-0", epoch="e2")) == ["decode-0"]


def test_goodbyes_heard_before_the_announcements_still_hold() -> None:
    router = Router()
    for epoch in ("e1", "e2"):
        router.feed(on.InstanceLeft, "decode-0", epoch, "its process exited with 1")
    for epoch in ("e1", "e2"):
        router.join("decode-0", epoch=epoch)
        assert not router.state.instances["decode-0"].live
    router.join("decode-0", epoch="e3")
    assert router.state.instances["decode-0"].live


def test_a_goodbye_of_an_older_epoch_leaves_the_newer_alone() -> None:
    router = Router()
    router.join("decode-0", epoch="e2")
    router.feed(on.InstanceLeft, "decode-0", "e1", "its process exited with 1")
    assert decoded_at(router.arrive("a")) == ["decode-0"]


def test_an_address_nobody_has_any_more_is_forgotten() -> None:
    router = Router()
    router.join("decode-0", address="host:1")
    assert all_of(do.ForgetAddress, router.join("decode-0", epoch="e2", address="host:1")) == []
    moved = router.join("decode-0", epoch="e3", address="host:2")
    assert one(do.ForgetAddress, moved).address == "host:1"


def test_an_address_that_another_instance_took_over_is_kept() -> None:
    router = Router()
    router.join("decode-0", address="host:1")
    router.join("decode-1", address="host:1")
    moved = router.join("decode-0", epoch="e2", address="host:2")
    assert all_of(do.ForgetAddress, moved) == []


def test_model_gone_from_the_list_at_zero_replicas() -> None:
    router = Router()
    router.join("decode-0", model="m", context=4096)
    router.feed(on.InstanceLeft, "decode-0", "e1", "asleep")
    assert router.state.models == {"m": 4096}
    assert all_of(do.Reject, router.arrive("a")) == []
    assert decoded_at(router.join("decode-0", epoch="e2")) == ["decode-0"]


# -- what is refused


@pytest.mark.parametrize(
    ("reason", "says", "request_fields"),
    [
        ("MODEL_NOT_FOUND", "there are: m", {"model": "other"}),
        ("PROMPT_TOO_LONG", "4096 tokens, and m takes 4096", {"tokens": 4096}),
        ("BAD_REQUEST", "held is in use", {"request_id": "held"}),
        ("NO_INSTANCE", "3 instances in a row", {"attempt": 3, "direct": True}),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_name(
    reason: str, says: str, request_fields: dict[str, Any]
) -> None:
    router = Router()
    router.join("decode-0")
    router.arrive("held")
    refused = one(do.Reject, router.arrive(**({"request_id": "a"} | request_fields)))
    assert refused.reason == reason
    assert says in refused.message


def test_the_longest_prompt_that_leaves_room_for_one_token_is_taken() -> None:
    router = Router()
    router.join("decode-0", context=4096)
    assert decoded_at(router.arrive("a", tokens=4095)) == ["decode-0"]


def test_before_any_instance_joined_the_router_is_not_ready() -> None:
    assert one(do.Reject, Router().arrive("a")).reason == "NOT_READY"


def test_a_full_queue_refuses_at_once_and_says_when_to_retry() -> None:
    router = Router(queue_limit=2)
    router.join("prefill-0", "prefill")
    for name in "ab":
        assert all_of(do.Reject, router.arrive(name)) == []
    refused = one(do.Reject, router.arrive("c"))
    assert (refused.reason, refused.retry_after_ms > 0) == ("OVERLOADED", True)
    assert list(router.state.requests) == ["a", "b"]


def test_a_duplicate_leaves_the_first_of_its_name_as_it_was() -> None:
    router = Router()
    router.join("prefill-0", "prefill")
    router.arrive("a")
    before = router.snapshot()
    router.arrive("a")
    assert router.snapshot() == before


@pytest.mark.parametrize(
    ("decode_is_live", "reason"), [(True, "OVERLOADED"), (False, "NO_INSTANCE")]
)
def test_a_request_that_waited_too_long_is_told_why(decode_is_live: bool, reason: str) -> None:
    router = Router()
    router.join("decode-0", max_running=1)
    router.load("decode-0", running=2)
    router.arrive("a")
    if not decode_is_live:
        router.feed(on.InstanceLeft, "decode-0", "e1", "stopped")
    assert router.pass_time(59 * S) == []
    assert one(do.Reject, router.pass_time(S)).reason == reason
    assert router.state.requests == {}


def test_a_callers_deadline_ends_the_wait_early() -> None:
    router = Router()
    router.join("prefill-0", "prefill")
    router.arrive("a", within_us=5 * S)
    assert one(do.Reject, router.pass_time(5 * S)).reason == "NO_INSTANCE"


def test_a_placed_request_has_no_timer_left() -> None:
    router = Router()
    router.join("decode-0")
    router.arrive("a")
    assert router.timers == {}


# -- failure and going on


def test_a_failed_attempt_is_placed_elsewhere_as_the_next_one() -> None:
    router = Router()
    router.join("decode-0")
    router.join("decode-1")
    assert decoded_at(router.arrive("a")) == ["decode-0"]
    dispatch = one(do.Dispatch, router.fail("a", at="decode-0"))
    assert (dispatch.decode, dispatch.attempt) == ("decode-1", 1)


def test_what_failed_goes_ahead_of_later_arrivals_in_its_old_order() -> None:
    router = Router()
    router.join("decode-0", max_running=1)
    for name in "abcd":
        router.arrive(name)
        router.pass_time(MS)
    router.fail("a", at="decode-0")
    router.fail("b", at="decode-0")
    assert router.state.queue == ["a", "b", "c", "d"]
    again = all_of(do.Dispatch, router.join("decode-0", epoch="e2", max_running=1))
    assert [(d.request_id, d.attempt) for d in again] == [("a", 1), ("b", 1)]


def test_the_failure_of_an_attempt_that_is_over_is_ignored() -> None:
    router = Router()
    router.join("decode-0")
    router.join("decode-1")
    router.arrive("a")
    router.fail("a", at="decode-0")
    before = router.snapshot()
    assert router.fail("a", at="decode-1", attempt=0) == []
    assert router.snapshot() == before


def test_after_too_many_attempts_the_caller_hears_of_the_last_failure() -> None:
    router = Router(attempts_max=2)
    router.join("decode-0")
    router.arrive("a")
    router.fail("a", at="decode-0", reason="KV_LOST")
    refused = one(do.Reject, router.fail("a", at="decode-0", reason="KV_LOST", attempt=1))
    assert (refused.reason, "decode-0: it broke" in refused.message) == ("NO_INSTANCE", True)
    assert router.state.requests == {}


def test_room_left_by_a_request_given_up_goes_to_the_next() -> None:
    router = Router(attempts_max=1)
    router.join("decode-0", max_running=1)
    for name in "abc":
        router.arrive(name)
    assert decoded_at(router.fail("a", at="decode-0", reason="KV_LOST")) == ["decode-0"]


def test_an_answer_cut_off_after_a_long_time_still_waits_for_a_restart() -> None:
    """The wait for an instance counts from the failure, not from the arrival."""
    router = Router()
    router.join("decode-0")
    router.arrive("a", within_us=600 * S)
    router.pass_time(200 * S)
    router.fail("a", at="decode-0")
    assert router.pass_time(50 * S) == []
    assert decoded_at(router.join("decode-0", epoch="e2")) == ["decode-0"]


def test_a_request_that_ends_gives_its_room_to_the_next() -> None:
    router = Router()
    router.join("decode-0", max_running=1)
    for name in "abc":
        router.arrive(name)
    assert decoded_at(router.feed(on.RequestEnded, "a")) == ["decode-0"]


def test_a_caller_that_hangs_up_while_queued_leaves_nothing_behind() -> None:
    router = Router()
    router.join("prefill-0", "prefill")
    before = router.snapshot()
    router.arrive("a")
    router.feed(on.RequestEnded, "a")
    assert (router.snapshot(), router.timers) == (before, {})


def test_a_direct_request_is_counted_but_leaves_no_request_behind() -> None:
    router = Router()
    router.join("decode-0")
    assert decoded_at(router.arrive("a", direct=True)) == ["decode-0"]
    assert router.state.requests == {}
    assert router.state.instances["decode-0"].requests == 1


def test_a_direct_caller_says_which_instance_it_could_not_reach() -> None:
    router = Router()
    router.join("decode-0")
    router.join("decode-1")
    rerouted = router.arrive(
        "a", attempt=1, direct=True, failed_instance="decode-0", failed_address="decode-0:e1"
    )
    assert decoded_at(rerouted) == ["decode-1"]
    assert not router.state.instances["decode-0"].live


def test_a_direct_callers_news_of_an_older_epoch_changes_nothing() -> None:
    router = Router()
    router.join("decode-0", epoch="e2")
    router.arrive(
        "a", attempt=1, direct=True, failed_instance="decode-0", failed_address="decode-0:e1"
    )
    assert router.state.instances["decode-0"].live


def test_no_request_id_can_stop_the_sweep() -> None:
    router = Router()
    router.feed(on.BusChanged, True)
    router.join("decode-0")
    router.arrive("sweep")
    router.pass_time(4 * S)
    assert not router.state.instances["decode-0"].live
