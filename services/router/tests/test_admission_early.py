"""What is refused at the door because its first token is predicted to come too late."""

from typing import Any

import pytest

from argosy.domain.timing import Timing
from argosy.router.core import effects, events

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0))


def busy_for(new_router: Any, us: int, **limits: Any) -> Any:
    """A router whose one instance is prefilling for so long; 0.1 ms a token."""
    router = new_router(**limits)
    router.join(
        "decode-0",
        timing=TENTH_MS_PER_TOKEN,
        max_running=50,
        kv_blocks=10_000,
        context=100_000,
        tokens_per_step=100_000,
    )
    if us:
        router.load("decode-0", running=1, tokens=us // 100)
        router.pass_time(1)
    return router


def test_a_first_token_predicted_too_late_is_refused_with_when_to_retry(new_router: Any) -> None:
    router = busy_for(new_router, 3 * S, ttft_limit_us=S)
    refused = router.arrive("a", 1000).one(effects.Reject)
    assert refused.reason == "OVERLOADED"
    assert refused.retry_after_ms == pytest.approx(3000 + 100 - 1000, abs=10)
    assert "limit of 1.0 s" in refused.message
    assert router.state.rejected_requests == 1


def test_one_that_will_be_in_time_is_taken(new_router: Any) -> None:
    router = busy_for(new_router, 3 * S, ttft_limit_us=4 * S)
    assert router.arrive("a", 1000).all(effects.Reject) == []


def test_what_waits_ahead_counts_and_what_waits_behind_does_not(new_router: Any) -> None:
    router = busy_for(new_router, S, ttft_limit_us=2 * S)
    router.arrive("background", 8000, priority=-1)
    assert router.arrive("a", 8000).all(effects.Reject) == []
    assert router.arrive("b", 8000).one(effects.Reject).reason == "OVERLOADED"


def test_cached_tokens_take_no_time(new_router: Any) -> None:
    router = busy_for(new_router, 0, ttft_limit_us=S)
    router.store("decode-0", range(1, 300))
    router.arrive("first", 5000)
    router.pass_time(1)
    assert router.arrive("a", 9600, blocks=[*range(1, 300)]).all(effects.Reject) == []
    assert (
        router.arrive("b", 9600, blocks=[*range(1000, 1300)]).one(effects.Reject).reason
        == "OVERLOADED"
    )


@pytest.mark.parametrize(("within_us", "refused"), [(3 * S, True), (4 * S, False)])
def test_a_deadline_that_cannot_be_met_is_refused_before_any_work(
    new_router: Any, within_us: int, refused: bool
) -> None:
    router = busy_for(new_router, 3 * S)
    told = router.arrive("a", 1000, within_us=within_us)
    assert bool(told.all(effects.Reject)) == refused


def test_a_prompt_that_alone_takes_longer_than_the_limit_is_not_refused_for_that(
    new_router: Any,
) -> None:
    router = busy_for(new_router, 0, ttft_limit_us=S)
    assert router.arrive("a", 20_000).sent == ["a"]


def test_higher_bands_have_no_limit_but_their_deadline(new_router: Any) -> None:
    router = busy_for(new_router, 3 * S, ttft_limit_us=S)
    assert router.arrive("a", 1000, priority=1).all(effects.Reject) == []
    late = router.arrive("b", 1000, priority=1, within_us=2 * S)
    assert late.one(effects.Reject).reason == "OVERLOADED"


def test_a_request_begun_elsewhere_is_not_refused_at_the_door(new_router: Any) -> None:
    router = busy_for(new_router, 3 * S, ttft_limit_us=S)
    assert router.arrive("a", 1000, attempt=1, direct=True).all(effects.Reject) == []


def test_nothing_is_predicted_where_no_instance_is_live(new_router: Any) -> None:
    router = busy_for(new_router, 3 * S, ttft_limit_us=S)
    router.leave("decode-0")
    assert router.arrive("a", 1000).all(effects.Reject) == []
    assert router.queued == ["a"]


def test_room_for_kv_counts_at_the_rate_at_which_answers_end(new_router: Any) -> None:
    """32 blocks come free each second, and it takes 320 more."""
    router = new_router(ttft_limit_us=5 * S, ledger_us=600 * S)
    router.join(
        "decode-0", timing=TENTH_MS_PER_TOKEN, max_running=50, kv_blocks=1000, context=100_000
    )
    for number in range(200):
        router.arrive(f"r{number}", 1024)
        router.pass_time(S)
        router.feed(events.FirstTokenSeen, request_id=f"r{number}")
        router.end(f"r{number}", output_tokens=1)
    router.load("decode-0", running=10, kv=1000)
    refused = router.arrive("a", 10_240).one(effects.Reject)
    assert refused.retry_after_ms == pytest.approx(10_000 + 1024 - 5000, rel=0.1)


def test_answers_that_end_all_at_once_do_not_look_like_a_flood_of_room(new_router: Any) -> None:
    """1,000 blocks in 100 s are 10 a second, however they are bunched."""
    router = new_router(ttft_limit_us=600 * S, ledger_us=600 * S)
    router.join(
        "decode-0", timing=TENTH_MS_PER_TOKEN, max_running=50, kv_blocks=1000, context=100_000
    )
    for _ in range(100):
        for name in "abcdefghij":
            router.arrive(name, 32)
        router.pass_time(S)
        for name in "abcdefghij":
            router.end(name, output_tokens=1)
            router.now_us += 10
    assert router.state.freed_blocks_per_s == pytest.approx(10, rel=0.3)
