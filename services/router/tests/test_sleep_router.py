"""Instances that drain, sleep or wake: sent nothing, and what waits for them meanwhile."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.router.core import effects, events
from argosy.router.core.fleet.wake_demand import DEMAND_US
from argosy.router.core.placement.admission import TOKEN_BYTES
from argosy.router.core.prefix_index import PrefixIndex
from argosy.router.core.state import RouterState
from argosy.router.policies import SPEC

MS, S = 1_000, 1_000_000
STATES = ("draining", "silent", "waking")


def change_to(
    router: Any, state: str, change: int, *, name: str = "decode-0", epoch: str = "e1"
) -> Any:
    return router.feed(
        events.InstanceLifecycleChanged,
        instance=name,
        epoch=epoch,
        change=change,
        state=state,
        cause="idle",
    )


def report(router: Any, change: int, *, serving: bool, name: str = "decode-0") -> Any:
    idle = [events.RankLoad(0, 0, 0, 0)]
    return router.feed(
        events.LoadReported,
        instance=name,
        epoch="e1",
        ranks=idle,
        at_us=router.now_us,
        serving=serving,
        change=change,
    )


def asleep(new_router: Any, *, name: str = "decode-0", **limits: Any) -> Any:
    """A router whose only instance sleeps; the bus is there, so it also sweeps."""
    router = new_router(**limits)
    router.feed(events.BusChanged, connected=True)
    router.join(name, change=1, max_running=8)
    change_to(router, "draining", 2, name=name)
    change_to(router, "silent", 3, name=name)
    return router


def wake(router: Any, name: str = "decode-0", change: int = 4) -> Any:
    change_to(router, "waking", change, name=name)
    return change_to(router, "active", change + 1, name=name)


def demands(told: Any) -> list[effects.PublishDemand]:
    return list(told.all(effects.PublishDemand))


# -- what does not serve is not used


@pytest.mark.parametrize("state", STATES)
def test_an_instance_that_does_not_serve_is_sent_nothing_until_it_is_active(
    new_router: Any, state: str
) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    change_to(router, state, 2)
    assert router.arrive("a").sent == []
    assert change_to(router, "active", 3).decoded_at == ["decode-0"]


@pytest.mark.parametrize("state", STATES)
def test_requests_go_to_those_awake_while_others_do_not_serve(new_router: Any, state: str) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    router.join("decode-1", change=1)
    change_to(router, state, 2)
    told = router.arrive("a")
    assert told.decoded_at == ["decode-1"]
    assert demands(told) == []


@pytest.mark.parametrize("state", STATES)
def test_a_prefill_instance_that_does_not_serve_is_sent_nothing(
    new_router: Any, state: str
) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    router.join("prefill-0", "prefill", change=1)
    change_to(router, state, 2, name="prefill-0")
    assert router.arrive("a", tokens=4000).prefilled_at == ["decode-0"]


def test_heartbeats_of_a_silent_instance_do_not_make_it_live(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a")
    for _ in range(10):
        router.pass_time(S)
        assert report(router, 3, serving=False).sent == []
    assert not router.instance("decode-0").live


def test_a_report_made_before_it_drained_does_not_make_it_live(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a")
    router.pass_time(S)
    assert report(router, 1, serving=True).sent == []
    assert not router.instance("decode-0").live


def test_a_report_says_that_it_does_not_serve_before_the_fact_comes(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    report(router, 2, serving=False)
    assert router.arrive("a").sent == []


def test_a_report_says_that_it_is_awake_before_the_fact_comes(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a")
    router.pass_time(MS)
    assert report(router, 5, serving=True).decoded_at == ["decode-0"]
    assert change_to(router, "waking", 4).sent == []
    assert router.instance("decode-0").live


@pytest.mark.parametrize("late", [1, 3])
@pytest.mark.parametrize("state", STATES)
def test_late_facts_are_ignored(new_router: Any, state: str, late: int) -> None:
    router = asleep(new_router)
    wake(router)
    before = router.snapshot()
    assert change_to(router, state, late) == []
    assert router.snapshot() == before


def test_a_late_fact_that_it_is_awake_does_not_wake_it(new_router: Any) -> None:
    router = asleep(new_router)
    change_to(router, "active", 2)
    assert router.arrive("a").sent == []


def test_an_announcement_of_the_past_does_not_wake_it(new_router: Any) -> None:
    router = asleep(new_router)
    router.join("decode-0", change=1)
    assert router.arrive("a").sent == []


def test_an_announcement_of_a_drain_turned_round_wakes_it(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    change_to(router, "draining", 2)
    router.arrive("a")
    assert router.join("decode-0", change=3).decoded_at == ["decode-0"]


@pytest.mark.parametrize("change", [1, 9])
def test_a_fact_of_an_earlier_life_says_nothing_of_this_one(new_router: Any, change: int) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2", change=1)
    change_to(router, "silent", change, epoch="e1")
    assert router.arrive("a").decoded_at == ["decode-0"]


def test_a_process_started_anew_is_awake_whatever_the_old_one_was(new_router: Any) -> None:
    router = asleep(new_router)
    assert router.join("decode-0", epoch="e2", change=1) is not None
    assert router.arrive("a").decoded_at == ["decode-0"]


def test_who_said_goodbye_is_not_woken_by_a_fact(new_router: Any) -> None:
    router = asleep(new_router)
    router.leave("decode-0")
    wake(router)
    assert router.arrive("a").sent == []


def test_a_sleep_told_before_the_instance_was_known_still_holds(new_router: Any) -> None:
    """Facts of different kinds overtake each other; goodbyes are remembered likewise."""
    router = new_router()
    change_to(router, "draining", 2)
    change_to(router, "silent", 3)
    router.join("decode-0", change=1)
    assert router.arrive("a").sent == []


def test_a_report_of_not_serving_heard_before_the_instance_was_known_still_holds(
    new_router: Any,
) -> None:
    router = new_router()
    report(router, 3, serving=False)
    router.join("decode-0", change=1)
    assert router.arrive("a").sent == []


def test_a_sleeping_instance_is_not_forgotten_as_long_as_it_is_heard_of(new_router: Any) -> None:
    router = asleep(new_router)
    for _ in range(130):
        router.pass_time(10 * S)
        report(router, 3, serving=False)
    router.arrive("a")
    assert wake(router).decoded_at == ["decode-0"]


def test_a_sibling_that_has_not_heard_puts_nothing_on_who_sleeps(new_router: Any) -> None:
    router = asleep(new_router)
    router.feed(
        events.PeerRouterDispatched,
        router="other",
        request_id="s",
        prefill="decode-0",
        prefill_rank=0,
        decode="decode-0",
        decode_rank=0,
        prompt_tokens=90,
        uncached_tokens=90,
        blocks=[1, 2],
    )
    assert router.rank("decode-0").requests == 0
    assert router.state.index.held_by(router.rank("decode-0").holder) == 0


# -- what it cached


def entries(router: Any, name: str = "decode-0") -> int:
    return int(router.state.index.held_by(router.rank(name).holder))


@pytest.mark.parametrize("told_by", ["fact", "report first"])
def test_prefix_entries_are_gone_once_it_is_silent(new_router: Any, told_by: str) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    router.store("decode-0", [1, 2, 3])
    change_to(router, "draining", 2)
    assert entries(router) == 3
    if told_by == "report first":
        report(router, 3, serving=False)
    change_to(router, "silent", 3)
    assert entries(router) == 0


def test_prefix_entries_are_gone_even_if_only_the_wake_was_heard_of(new_router: Any) -> None:
    """Neither the sleep nor what it said of its blocks came through, or not yet."""
    router = new_router()
    router.join("decode-0", change=1)
    router.store("decode-0", [1, 2, 3])
    change_to(router, "draining", 2)
    change_to(router, "waking", 4)
    change_to(router, "active", 5)
    assert entries(router) == 0


def test_a_drain_turned_round_keeps_what_it_cached(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    router.store("decode-0", [1, 2, 3])
    change_to(router, "draining", 2)
    router.join("decode-0", change=3)
    assert entries(router) == 3


def test_a_snapshot_taken_before_it_slept_brings_nothing_back(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    router.store("decode-0", [1], sequence=1)
    assert router.store("decode-0", [9], sequence=3).one(effects.AskKvSnapshot)
    change_to(router, "draining", 2)
    router.store("decode-0", [], sequence=4, cleared=True)
    change_to(router, "silent", 3)
    router.feed(
        events.KvSnapshotTaken, instance="decode-0", epoch="e1", sequence=3, blocks=[[1, 2, 9]]
    )
    assert entries(router) == 0


def test_what_it_caches_after_it_woke_is_believed_again(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", change=1)
    router.store("decode-0", [1, 2, 3], sequence=1)
    change_to(router, "draining", 2)
    router.store("decode-0", [], sequence=2, cleared=True)
    change_to(router, "silent", 3)
    wake(router)
    assert router.store("decode-0", [7, 8], sequence=3) == []
    assert entries(router) == 2


def test_nobody_is_preferred_for_what_it_cached_before_it_slept(new_router: Any) -> None:
    router = new_router()
    for name in ("decode-0", "decode-1"):
        router.join(name, change=1, block_tokens=32)
    router.store("decode-1", range(1, 100))
    change_to(router, "draining", 2, name="decode-1")
    change_to(router, "silent", 3, name="decode-1")
    wake(router, "decode-1")
    (dispatch,) = router.arrive("a", tokens=3200, blocks=list(range(1, 100))).dispatches
    assert dispatch.uncached_tokens == 3200


# -- what waits


def test_requests_wait_for_a_wake_and_go_in_order_of_arrival(new_router: Any) -> None:
    router = asleep(new_router)
    for name in ("a", "b", "c"):
        assert router.arrive(name).sent == []
        router.pass_time(MS)
    assert router.queued == ["a", "b", "c"]
    assert wake(router).sent == ["a", "b", "c"]


def test_of_what_waits_for_a_wake_higher_priorities_go_first(new_router: Any) -> None:
    router = asleep(new_router)
    for name, priority in (("low", 0), ("usual", 1), ("high", 2), ("low too", 0)):
        router.arrive(name, priority=priority)
        router.pass_time(MS)
    assert wake(router).sent == ["high", "usual", "low", "low too"]


def test_arrival_decides_within_each_tenant(new_router: Any) -> None:
    router = asleep(new_router)
    for number in range(6):
        router.arrive(f"{number}", tenant="xy"[number % 2])
        router.pass_time(MS)
    sent = wake(router).sent
    assert [name for name in sent if int(name) % 2 == 0] == ["0", "2", "4"]
    assert [name for name in sent if int(name) % 2] == ["1", "3", "5"]


def test_a_request_whose_deadline_passes_meanwhile_is_rejected(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a", within_us=2 * S)
    router.arrive("b", within_us=20 * S)
    assert router.pass_time(2 * S - 1).all(effects.Reject) == []
    rejected = router.pass_time(1).one(effects.Reject)
    assert (rejected.request_id, rejected.reason) == ("a", "NO_INSTANCE")
    assert wake(router).sent == ["b"]


def test_who_hung_up_meanwhile_is_not_dispatched(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a")
    router.arrive("b")
    router.end("a")
    assert wake(router).sent == ["b"]


def test_what_waits_is_bounded_in_number(new_router: Any) -> None:
    router = asleep(new_router, queue_limit=3)
    for number in range(3):
        assert router.arrive(f"{number}").all(effects.Reject) == []
    rejected = router.arrive("one more").one(effects.Reject)
    assert rejected.reason == "OVERLOADED"
    assert rejected.retry_after_ms > 0
    assert wake(router).sent == ["0", "1", "2"]


def test_what_waits_is_bounded_in_bytes(new_router: Any) -> None:
    router = asleep(new_router, queue_bytes_max=250 * TOKEN_BYTES)
    for number in range(2):
        assert router.arrive(f"{number}", tokens=100).all(effects.Reject) == []
    assert router.arrive("one more", tokens=100).one(effects.Reject).reason == "OVERLOADED"
    assert router.arrive("a short one", tokens=50).all(effects.Reject) == []


def test_what_waits_is_not_refused_for_a_wait_nobody_can_predict(new_router: Any) -> None:
    router = asleep(new_router, ttft_limit_us=1)
    assert router.arrive("a").all(effects.Reject) == []


def test_the_model_stays_listed_while_all_its_instances_sleep(new_router: Any) -> None:
    router = asleep(new_router)
    router.pass_time(100 * S)
    assert router.state.models == {"m": 4096}


@pytest.mark.parametrize("reason", ["DRAINING", "NOT_READY", "INSTANCE_LOST"])
def test_a_request_that_met_a_sleeping_instance_waits_and_is_served(
    new_router: Any, reason: str
) -> None:
    """It was on its way when the instance went to sleep."""
    router = new_router()
    router.join("decode-0", change=1)
    assert router.arrive("a").sent == ["a"]
    change_to(router, "draining", 2)
    told = router.fail("a", "decode-0", reason)
    assert (told.sent, told.all(effects.Reject)) == ([], [])
    assert len(demands(told)) == 1
    change_to(router, "silent", 3)
    assert wake(router).sent == ["a"]


# -- what is asked of the fleet


def test_the_first_request_asks_for_a_wake(new_router: Any) -> None:
    router = asleep(new_router)
    (told,) = demands(router.arrive("a", tokens=77))
    assert (told.model, told.queued_requests, told.queued_tokens) == ("m", 1, 77)
    assert told.oldest_us == router.now_us


def test_a_wake_is_asked_for_again_and_again_but_not_more_often(new_router: Any) -> None:
    router = asleep(new_router)
    times = []
    for number in range(100):
        told = router.arrive(f"{number}", within_us=3600 * S) if number < 5 else []
        told = [*told, *router.pass_time(100 * MS)]
        times += [router.now_us] * sum(isinstance(effect, effects.PublishDemand) for effect in told)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= DEMAND_US - 100 * MS
    assert max(gaps) <= 2 * DEMAND_US + 100 * MS
    assert len(times) >= 9


def test_two_requests_at_once_ask_once(new_router: Any) -> None:
    router = asleep(new_router)
    assert len(demands(router.arrive("a"))) == 1
    assert demands(router.arrive("b")) == []
    router.now_us += DEMAND_US
    (told,) = demands(router.arrive("c"))
    assert (told.queued_requests, told.oldest_us) == (3, router.now_us - DEMAND_US)


def test_nothing_is_asked_while_somebody_is_awake(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0", change=1, max_running=1)
    told = [effect for number in range(6) for effect in router.arrive(f"{number}")]
    for _ in range(10):
        told += [*router.load("decode-0", running=2), *router.pass_time(S)]
    assert router.queued
    assert not any(isinstance(effect, effects.PublishDemand) for effect in told)


def test_nothing_is_asked_once_nobody_waits(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a")
    router.end("a")
    assert demands(router.pass_time(10 * S)) == []


def test_nothing_is_asked_of_a_model_that_somebody_is_awake_for(new_router: Any) -> None:
    router = asleep(new_router)
    router.join("decode-9", model="k", change=1)
    assert demands(router.arrive("a", model="k")) == []
    (told,) = demands(router.arrive("b"))
    assert told.model == "m"


def test_of_two_sleeping_models_each_is_asked_for(new_router: Any) -> None:
    router = asleep(new_router)
    router.join("decode-9", model="k", change=1)
    change_to(router, "silent", 2, name="decode-9")
    assert [d.model for d in demands(router.arrive("a", model="k"))] == ["k"]
    assert [d.model for d in demands(router.arrive("b"))] == ["m"]


def test_the_next_sleep_asks_at_its_first_request_again(new_router: Any) -> None:
    router = asleep(new_router)
    router.arrive("a")
    wake(router)
    router.end("a")
    router.pass_time(DEMAND_US)
    change_to(router, "draining", 6)
    change_to(router, "silent", 7)
    assert len(demands(router.arrive("b"))) == 1


def test_a_prefill_instance_alone_serves_nobody_so_a_wake_is_asked_for(new_router: Any) -> None:
    router = asleep(new_router)
    router.join("prefill-0", "prefill", change=1)
    assert len(demands(router.arrive("a"))) == 1


# -- whatever comes in whatever order

LIFE = (
    (1, "active"),
    (2, "draining"),
    (3, "silent"),
    (4, "waking"),
    (5, "active"),
    (6, "draining"),
    (7, "active"),
    (8, "draining"),
    (9, "silent"),
)
"""What an instance is after each of its changes."""

changes = st.sampled_from(LIFE)
things = st.one_of(
    st.tuples(st.just("fact"), changes),
    st.tuples(st.just("report"), changes),
    st.tuples(st.just("join"), st.sampled_from([1, 7])),
    st.tuples(st.just("kv"), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("snapshot"), st.integers(0, 4)),
    st.tuples(st.just("arrive"), st.integers(-1, 1)),
    st.tuples(st.just("wait"), st.sampled_from([MS, S])),
)


@pytest.mark.parametrize("known", ["known before", "known later"])
@settings(max_examples=examples(150))
@given(sequence=st.lists(things, max_size=40))
def test_who_does_not_serve_is_never_in_a_dispatch_whatever_comes_in_whatever_order(
    new_router: Any, known: str, sequence: list[Any]
) -> None:
    """And a twin made anew from the state before each event decides the same."""
    router = new_router(queue_limit=100)
    router.feed(events.BusChanged, connected=True)
    newest = (0, "active")
    if known == "known before":
        sequence = [("join", 1), *sequence]
    for number, (kind, *given_) in enumerate(sequence):
        twin = SPEC.build(made_anew(router.state))
        if kind == "wait":
            told = router.pass_time(given_[0])
        else:
            event, heard = event_of(kind, given_, number, router.now_us)
            newest = max(newest, heard)
            told = router.feed(lambda now_us, event=event: event)
            assert list(twin.step(event)) == list(told)
        assert not (told.dispatches and newest[1] != "active")
        if "decode-0" in router.state.instances:
            instance = router.instance("decode-0")
            assert not (instance.live and newest[1] != "active")
            assert instance.lifecycle.newest.change <= newest[0]


def event_of(kind: str, given_: list[Any], number: int, now_us: int) -> tuple[Any, Any]:
    """An event, and what it lets one know of the instance: the change, and its state then."""
    nothing = (0, "active")
    match kind:
        case "fact":
            ((change, state),) = given_
            event: Any = events.InstanceLifecycleChanged(
                now_us=now_us,
                instance="decode-0",
                epoch="e1",
                change=change,
                state=state,
                cause="idle",
            )
            return event, (change, state)
        case "report":
            ((change, state),) = given_
            loads = [events.RankLoad(0, 0, 0, 0)]
            event = events.LoadReported(
                now_us=now_us,
                instance="decode-0",
                epoch="e1",
                ranks=loads,
                at_us=now_us,
                serving=state == "active",
                change=change,
            )
            return event, (change, state)
        case "join":
            event = events.InstanceJoined(
                now_us=now_us,
                instance="decode-0",
                epoch="e1",
                role="decode",
                address="host:1",
                node="n1",
                model="m",
                kv_total_blocks=100,
                block_tokens=32,
                max_model_tokens=4096,
                max_running_requests=8,
                change=given_[0],
            )
            return event, (given_[0], "active")
        case "kv":
            sequence, cleared = given_
            stored = [] if cleared else [sequence, sequence + 1]
            return events.KvChanged(
                now_us=now_us,
                instance="decode-0",
                epoch="e1",
                sequence=sequence,
                stored=stored,
                removed=[],
                cleared=cleared,
            ), nothing
        case "snapshot":
            return events.KvSnapshotTaken(
                now_us=now_us, instance="decode-0", epoch="e1", sequence=given_[0], blocks=[[1, 2]]
            ), nothing
        case _:
            deadline_us = now_us + 600 * S
            event = events.RequestArrived(
                now_us=now_us,
                request_id=f"r{number}",
                model="m",
                prompt_tokens=100,
                max_tokens=16,
                deadline_us=deadline_us,
                priority=given_[0],
            )
            return event, nothing


def made_anew(state: RouterState) -> RouterState:
    snapshot = msgspec.msgpack.encode(state, enc_hook=PrefixIndex.to_snapshot)
    return msgspec.msgpack.decode(
        snapshot, type=RouterState, dec_hook=lambda _, snapshot: PrefixIndex.from_snapshot(snapshot)
    )


@given(order=st.permutations(range(4)), told=st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_router_that_comes_later_sends_nothing_to_who_sleeps(
    new_router: Any, order: list[int], told: list[bool]
) -> None:
    """It reads the control log, of each kind of fact the last, in whatever order."""
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    for number, reported in zip(order, told, strict=True):
        if number:
            change_to(router, ("active", *STATES)[number], (2, 2, 3, 0)[number])
        else:
            router.join("decode-0", change=1, ago_us=100 * S)
        if reported:
            report(router, 3, serving=False)
        assert router.arrive(f"{number}").sent == []


@given(order=st.permutations(range(6)), reports=st.lists(st.integers(1, 5), max_size=6))
def test_in_whatever_order_the_facts_of_a_life_come_the_last_change_holds(
    new_router: Any, order: list[int], reports: list[int]
) -> None:
    """Known since its announcement, and heard of to the end, it is where it really is."""
    router = new_router()
    router.join("decode-0", change=1)
    last = LIFE[:6]
    for number, which in enumerate(order):
        change, state = last[which]
        change_to(router, state, change)
        if number < len(reports):
            change, state = last[reports[number]]
            report(router, change, serving=state == "active")
    instance = router.instance("decode-0")
    assert (instance.lifecycle.newest.change, instance.lifecycle.state, instance.live) == (
        6,
        "draining",
        False,
    )
