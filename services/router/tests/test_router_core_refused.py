"""What the router refuses, by which name, and when."""

from typing import Any

import pytest

from argosy.router.core import effects, events

S = 1_000_000


@pytest.mark.parametrize(
    ("reason", "says", "request_fields"),
    [
        ("MODEL_NOT_FOUND", "there are: m", {"model": "other"}),
        ("PROMPT_TOO_LONG", "maximum context length is 4096 tokens", {"tokens": 4096}),
        ("BAD_REQUEST", "held is in use", {"request_id": "held"}),
        ("NO_INSTANCE", "3 instances in a row", {"attempt": 3, "failures": 3, "direct": True}),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_name(
    new_router: Any, reason: str, says: str, request_fields: dict[str, Any]
) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("held")
    refused = router.arrive(**({"request_id": "a"} | request_fields)).one(effects.Reject)
    assert refused.reason == reason
    assert says in refused.message


def test_the_longest_prompt_that_leaves_room_for_one_token_is_taken(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", context=4096)
    assert router.arrive("a", tokens=4095).decoded_at == ["decode-0"]


def test_a_prompt_of_nothing_counts_as_one_token(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    assert router.arrive("a", tokens=0).dispatch.uncached_tokens == 1
    again = router.fail("a", at="decode-0", reason="KV_LOST", tokens=0).dispatch
    assert again.uncached_tokens == 1


def test_prompts_of_nothing_wait_and_leave_like_others(new_router: Any) -> None:
    router = new_router()
    router.join("prefill-0", "prefill")
    for name in "ab":
        router.arrive(name, tokens=0)
    router.end("a")
    assert router.join("decode-0").sent == ["b"]


def test_before_any_instance_joined_the_router_is_not_ready(new_router: Any) -> None:
    assert new_router().arrive("a").one(effects.Reject).reason == "NOT_READY"


def test_a_full_queue_refuses_at_once_and_says_when_to_retry(new_router: Any) -> None:
    router = new_router(queue_limit=2)
    router.join("prefill-0", "prefill")
    for name in "ab":
        assert router.arrive(name).all(effects.Reject) == []
    refused = router.arrive("c").one(effects.Reject)
    assert (refused.reason, refused.retry_after_ms > 0) == ("OVERLOADED", True)
    assert router.queued == ["a", "b"]


def test_a_tenant_with_its_most_waiting_is_refused_and_others_are_not(new_router: Any) -> None:
    router = new_router(tenant_queue_limit=2)
    router.join("prefill-0", "prefill")
    router.arrive("a", tenant="noisy")
    router.arrive("b", tenant="noisy", priority=1)
    refused = router.arrive("c", tenant="noisy").one(effects.Reject)
    assert (refused.reason, refused.retry_after_ms > 0) == ("OVERLOADED", True)
    assert "noisy" in refused.message
    assert router.arrive("d", tenant="quiet").all(effects.Reject) == []
    router.end("a")
    assert router.arrive("e", tenant="noisy").all(effects.Reject) == []


def test_a_duplicate_leaves_the_first_of_its_name_as_it_was(new_router: Any) -> None:
    router = new_router()
    router.join("prefill-0", "prefill")
    router.arrive("a", tokens=100)
    router.arrive("a", tokens=7)
    assert router.state.requests["a"].prompt_tokens == 100
    assert router.state.queued_requests == 1


def test_what_is_refused_leaves_no_trace_but_a_count(new_router: Any) -> None:
    router = new_router(queue_limit=0)
    router.join("decode-0")
    router.arrive("a", tenant="t")
    assert (router.state.requests, router.state.tenants) == ({}, {})
    assert (router.state.arrived_requests, router.state.rejected_requests) == (1, 1)


@pytest.mark.parametrize(
    ("decode_is_live", "reason"), [(True, "OVERLOADED"), (False, "NO_INSTANCE")]
)
def test_a_request_that_waited_too_long_is_told_why(
    new_router: Any, decode_is_live: bool, reason: str
) -> None:
    router = new_router()
    router.join("decode-0", max_running=1)
    router.load("decode-0", running=2)
    router.arrive("a")
    if not decode_is_live:
        router.leave("decode-0")
    assert router.pass_time(60 * S - 1).all(effects.Reject) == []
    assert router.pass_time(1).one(effects.Reject).reason == reason
    assert router.state.requests == {}


def test_a_callers_deadline_ends_the_wait_early(new_router: Any) -> None:
    router = new_router()
    router.join("prefill-0", "prefill")
    router.arrive("a", within_us=5 * S)
    assert router.pass_time(5 * S).one(effects.Reject).reason == "NO_INSTANCE"


def test_one_that_failed_before_is_told_of_that_too(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a")
    router.fail("a", at="decode-0")
    assert "decode-0: it broke" in router.pass_time(60 * S).one(effects.Reject).message


def test_what_goes_when_it_arrives_is_refused_by_no_timer_later(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a", within_us=5 * S)
    router.feed(events.TimerFired, key="wait:a")
    assert router.pass_time(60 * S) == []
    assert not router.queued
