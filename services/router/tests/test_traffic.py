"""What the router says it was asked for: sums by which fleets are sized."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain import histogram
from argosy.mesh.service import Mesh
from argosy.router.core.events import FirstTokenSeen, PeerRouterDispatched
from argosy.router.core.state import TrafficCounters
from argosy.router.settings import RouterSettings
from argosy.router.shell.view import FleetView

MS, S = 1_000, 1_000_000
ways = st.sampled_from(["answered", "failed before", "failed after", "hung up"])


def run(router: Any, name: str, tokens: int, way: str) -> float:
    """One request's way; returns its TTFT in milliseconds, or -1."""
    arrived_us = router.now_us
    router.arrive(name, tokens)
    until_sent(router, name)
    if way == "hung up":
        router.end(name)
        return -1
    if way == "failed before":
        router.fail(name, at="decode-0", reason="KV_LOST", tokens=tokens)
        until_sent(router, name)
    ttft_us = router.now_us - arrived_us
    router.feed(FirstTokenSeen, request_id=name)
    if way == "failed after":
        router.fail(name, at="decode-0", reason="KV_LOST", tokens=tokens + 5)
        until_sent(router, name)
        router.feed(FirstTokenSeen, request_id=name)
    router.end(name, output_tokens=9)
    return ttft_us / 1e3


def until_sent(router: Any, name: str) -> None:
    router.pass_time(3 * MS)
    while name in router.queued:
        router.pass_time(MS)


@given(asked=st.lists(st.tuples(st.integers(1, 900), ways), max_size=12))
def test_sums_are_those_of_the_requests_however_often_each_was_tried(
    new_router: Any, asked: list[tuple[int, str]]
) -> None:
    router = new_router()
    router.join("decode-0")
    router.join("decode-1")
    waits = [run(router, f"r{n}", tokens, way) for n, (tokens, way) in enumerate(asked)]
    ttft: list[int] = []
    for waited_ms in waits:
        if waited_ms >= 0:
            histogram.count(ttft, waited_ms)
    assert router.state.traffic == TrafficCounters(
        len(asked),
        sum(tokens for tokens, _ in asked),
        sum(tokens**2 for tokens, _ in asked),
        0,
        sum(ttft),
        ttft,
    )


def test_a_one_token_answer_has_a_first_token_too(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a")
    router.pass_time(7 * MS)
    router.end("a", output_tokens=1)
    assert router.state.traffic.started_requests == 1
    assert router.state.traffic.ttft_buckets[histogram.bucket_of(7)] == 1


def test_what_is_refused_for_want_of_room_was_asked_for_once(new_router: Any) -> None:
    router = new_router(queue_limit=1)
    router.join("prefill-0", "prefill")
    router.arrive("a", 10, within_us=5 * S)
    router.arrive("b", 20)
    router.pass_time(5 * S)
    traffic = router.state.traffic
    assert router.state.rejected_requests == 2
    assert (traffic.requests, traffic.prompt_tokens, traffic.prompt_tokens_squared) == (2, 30, 500)
    assert (traffic.started_requests, traffic.cached_tokens) == (0, 0)


def test_what_could_never_be_served_was_not_asked_of_the_fleet(new_router: Any) -> None:
    router = new_router()
    router.join("prefill-0", "prefill", context=100)
    router.arrive("a", 10)
    router.arrive("a", 10)
    router.arrive("b", 100)
    router.arrive("c", 10, model="unknown")
    assert router.state.traffic.requests == 1


def test_a_direct_callers_way_back_is_no_other_request(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.join("decode-1")
    router.arrive("a", 50, direct=True)
    # The prefill instance did not take the prompt; then decode died in mid answer.
    router.arrive("a", 50, direct=True, failed_instance="decode-0", failed_address="elsewhere")
    router.arrive("a", 60, direct=True, attempt=1, failed_instance="decode-1", failed_address="?")
    assert router.state.traffic == TrafficCounters(1, 50, 2500, 0, 1, [])


def test_cached_tokens_are_those_known_when_the_request_is_first_sent(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [1, 2, 3])
    router.arrive("a", 100, blocks=[1, 2, 9])
    assert router.state.traffic.cached_tokens == 64
    router.fail("a", at="decode-0", reason="KV_LOST")
    assert router.state.traffic.cached_tokens == 64


def test_what_another_router_sent_is_not_counted_here(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.feed(
        PeerRouterDispatched,
        router="other",
        request_id="a",
        prefill="decode-0",
        prefill_rank=0,
        decode="decode-0",
        decode_rank=0,
        prompt_tokens=100,
        uncached_tokens=100,
        blocks=[],
    )
    assert router.state.traffic == TrafficCounters()


@pytest.fixture
async def meshes() -> AsyncIterator[list[Mesh[RouterSettings]]]:
    """A router's process, and the one that was started after it."""
    made = [Mesh(RouterSettings(fleet_secret="s"), "router") for _ in range(2)]
    yield made
    for mesh in made:
        await mesh.close()


async def test_a_router_that_starts_again_counts_anew_under_another_epoch(
    meshes: list[Mesh[RouterSettings]], new_router: Any
) -> None:
    told = []
    for mesh, asked in zip(meshes, ([100, 200], [7]), strict=True):
        router = new_router()
        router.join("decode-0")
        for number, tokens in enumerate(asked):
            run(router, f"r{number}", tokens, "answered")
        told.append(FleetView(mesh, router.state).queue_fact())
    first, then = told
    assert first.epoch
    assert then.epoch
    assert first.epoch != then.epoch
    assert first.router == then.router
    assert (first.traffic.requests, first.traffic.prompt_tokens) == (2, 300)
    assert first.traffic.prompt_tokens_squared == 50_000
    assert sum(first.traffic.ttft_buckets) == first.traffic.started_requests == 2
    assert (then.traffic.requests, then.traffic.prompt_tokens) == (1, 7)
