"""Several routers of one fleet: what each sends weighs in the others' ledgers too."""

from collections import Counter
from typing import Any

import pytest

from argosy.domain.timing import Timing
from argosy.router.core import effects, events

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0), transfer_ms=0)


def one_of_two(new_router: Any, instances: int = 2) -> Any:
    """A router that has seen another one."""
    router = new_router(queue_limit=1000)
    router.feed(events.PeerRouterSeen, router="router-b")
    for number in range(instances):
        router.join(
            f"decode-{number}", timing=TENTH_MS_PER_TOKEN, max_running=1000, kv_blocks=100_000
        )
    return router


def told_of(
    router: Any,
    request_id: str = "x",
    prefill: str = "decode-0",
    decode: str = "decode-0",
    prefill_rank: int = 0,
    decode_rank: int = 0,
    tokens: int = 320,
    blocks: Any = (),
) -> Any:
    return router.feed(
        events.PeerRouterDispatched,
        router="router-b",
        request_id=request_id,
        prefill=prefill,
        prefill_rank=prefill_rank,
        decode=decode,
        decode_rank=decode_rank,
        prompt_tokens=tokens,
        uncached_tokens=tokens,
        blocks=list(blocks),
    )


def pass_on(decided: Any, router: Any, name: str) -> None:
    """Tell a router what another told its peer_routers."""
    for told in decided.all(effects.TellPeerRouters):
        if told.ended:
            router.feed(events.PeerRouterEnded, router=name, request_ids=[told.request_id])
        else:
            router.feed(
                events.PeerRouterDispatched,
                router=name,
                request_id=told.request_id,
                prefill=told.prefill,
                prefill_rank=told.prefill_rank,
                decode=told.decode,
                decode_rank=told.decode_rank,
                prompt_tokens=told.prompt_tokens,
                uncached_tokens=told.uncached_tokens,
                blocks=told.blocks,
            )


def test_a_siblings_dispatch_weighs_until_it_ends(new_router: Any) -> None:
    router = one_of_two(new_router)
    told_of(router, tokens=320)
    rank = router.rank("decode-0")
    assert (rank.requests, rank.kv_blocks, rank.prefill_tokens) == (1, 10, 320)
    assert router.arrive("a").decoded_at == ["decode-1"]
    router.feed(events.PeerRouterEnded, router="router-b", request_ids=["x", "never-heard-of"])
    assert (rank.requests, rank.kv_blocks) == (0, 0)


def test_a_siblings_dispatch_apart_weighs_on_both_ranks(new_router: Any) -> None:
    router = one_of_two(new_router)
    told_of(router, prefill="decode-0", decode="decode-1")
    assert [router.rank(f"decode-{number}").requests for number in (0, 1)] == [1, 1]
    assert router.rank("decode-1").prefill_tokens == 0
    router.feed(events.PeerRouterEnded, router="router-b", request_ids=["x"])
    assert [router.rank(f"decode-{number}").requests for number in (0, 1)] == [0, 0]


def test_what_a_sibling_sent_is_believed_cached_there_soon(new_router: Any) -> None:
    router = one_of_two(new_router)
    told_of(router, decode="decode-1", prefill="decode-1", tokens=320, blocks=range(1, 11))
    router.pass_time(S)
    router.load("decode-1")
    dispatch = router.arrive("a", 320, blocks=[*range(1, 11)]).dispatch
    assert (dispatch.prefill, dispatch.uncached_tokens) == ("decode-1", 1)


def test_the_same_request_id_of_two_routers_are_two_requests(new_router: Any) -> None:
    router = one_of_two(new_router, instances=1)
    router.arrive("x", 100)
    told_of(router, "x", tokens=320)
    assert router.instance("decode-0").requests == 2
    router.end("x")
    assert router.instance("decode-0").requests == 1
    router.feed(events.PeerRouterEnded, router="router-c", request_ids=["x"])
    assert router.instance("decode-0").requests == 1


def test_a_siblings_dispatch_heard_twice_weighs_once(new_router: Any) -> None:
    router = one_of_two(new_router)
    for _ in range(2):
        told_of(router, prefill="decode-0", decode="decode-1")
    ranks = [router.rank(f"decode-{number}") for number in (0, 1)]
    assert [(rank.requests, rank.kv_blocks) for rank in ranks] == [(1, 10), (1, 10)]
    router.feed(events.PeerRouterEnded, router="router-b", request_ids=["x"])
    assert [(rank.requests, rank.kv_blocks) for rank in ranks] == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    "where",
    [
        {"prefill": "unknown"},
        {"decode": "unknown"},
        {"prefill_rank": 1},
        {"decode_rank": 7},
        {"prefill": "gone"},
        {"decode": "gone"},
    ],
)
def test_what_a_sibling_sent_to_an_instance_unknown_here_is_ignored(
    new_router: Any, where: dict[str, Any]
) -> None:
    router = one_of_two(new_router)
    router.join("gone")
    router.leave("gone")
    before = router.snapshot()
    assert told_of(router, **where) == []
    assert router.snapshot() == before


def test_an_end_that_is_never_told_is_forgotten_in_time(new_router: Any) -> None:
    router = one_of_two(new_router)
    router.feed(events.BusChanged, connected=False)
    told_of(router, prefill="decode-0", decode="decode-1")
    router.pass_time(31 * S)
    assert [router.rank(f"decode-{number}").requests for number in (0, 1)] == [0, 0]


def test_dispatches_and_their_ends_are_told_if_there_are_peer_routers(new_router: Any) -> None:
    router = one_of_two(new_router)
    told = router.arrive("a", 320, tenant="t", blocks=[1, 2]).one(effects.TellPeerRouters)
    assert (told.request_id, told.ended, told.decode) == ("a", False, "decode-0")
    assert (told.prompt_tokens, told.tenant, told.blocks) == (320, "t", [1, 2])
    ended = router.end("a").one(effects.TellPeerRouters)
    assert (ended.request_id, ended.ended) == ("a", True)
    router.arrive("b")
    assert router.fail("b", at="decode-0", reason="KV_LOST").all(effects.TellPeerRouters)[0].ended


def test_one_that_has_seen_no_other_tells_nobody(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    assert (
        router.arrive("a").all(effects.TellPeerRouters)
        + router.end("a").all(effects.TellPeerRouters)
        == []
    )


def test_a_sibling_fallen_silent_is_told_no_more(new_router: Any) -> None:
    router = one_of_two(new_router)
    router.feed(events.BusChanged, connected=True)
    router.pass_time(4 * S)
    router.feed(events.PeerRouterSeen, router="router-b")
    router.pass_time(4 * S)
    router.load("decode-0")
    assert len(router.arrive("a").all(effects.TellPeerRouters)) == 1
    router.pass_time(2 * S)
    assert router.end("a").all(effects.TellPeerRouters) == []


def test_no_more_siblings_are_remembered_than_a_fleet_has(new_router: Any) -> None:
    router = one_of_two(new_router)
    for number in range(1000):
        router.feed(events.PeerRouterSeen, router=f"router-{number}")
    assert len(router.state.peer_routers) <= 64
    router.pass_time(S)
    router.feed(events.PeerRouterSeen, router="router-b")
    assert router.state.peer_routers["router-b"] == router.now_us


def test_two_routers_do_not_send_a_burst_to_the_same_instance(new_router: Any) -> None:
    routers = [one_of_two(new_router, instances=6) for _ in range(2)]
    placed: Counter[str] = Counter()
    for number in range(6):
        router, other = routers[number % 2], routers[1 - number % 2]
        decided = router.arrive(f"r{number}", 3000)
        placed.update(decided.decoded_at)
        pass_on(decided, other, f"router-{'ab'[number % 2]}")
        for one in routers:
            one.now_us += 100
    assert sorted(placed.values()) == [1] * 6


def test_two_routers_that_hear_each_other_late_still_share_the_load(new_router: Any) -> None:
    routers = [one_of_two(new_router, instances=4) for _ in range(2)]
    placed: Counter[str] = Counter()
    late: list[Any] = []
    for number in range(400):
        which = number % 2
        decided = routers[which].arrive(f"r{number}", 1000)
        found = [(which, decided)]
        for one, router in enumerate(routers):
            found.append((one, router.pass_time(30 * MS)))
        for one, told in late:
            pass_on(told, routers[1 - one], f"router-{'ab'[one]}")
        late = found
        for _, told in found:
            placed.update(told.decoded_at)
    assert placed.total() >= 395
    assert max(placed.values()) <= 1.2 * placed.total() / 4
