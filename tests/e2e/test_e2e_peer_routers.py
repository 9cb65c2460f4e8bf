"""Two routers of one fleet serve it as one would."""

import asyncio
from pathlib import Path
from typing import Any

from argosy.domain.core import CoreSpec
from argosy.mesh.replay import replay_directory
from argosy.router.core import events
from argosy.router.core.router import RouterCore
from argosy.router.policies import SPEC, policy_named
from argosy.wire.router.v1 import events_pb2

BLOCK_TOKENS = 32


async def ask(fleet: Any, text: str, **options: Any) -> Any:
    async with fleet.client() as client:
        return await client.answer("sim", text=text, max_tokens=8, temperature=0, **options)


async def test_both_routers_give_the_same_answers(
    three_decodes: Any, other_router: Any, long_text: str
) -> None:
    texts = [f"{number} {long_text}" for number in range(4)]
    ours = await asyncio.gather(*(ask(three_decodes, text) for text in texts))
    theirs = await asyncio.gather(*(ask(other_router, text) for text in texts))

    assert [answer.text for answer in ours] == [answer.text for answer in theirs]


async def test_each_router_finds_what_the_other_s_requests_left_in_the_caches(
    three_decodes: Any, other_router: Any, watch: Any, long_text: str
) -> None:
    for number, (first, then) in enumerate(
        [(three_decodes, other_router), (other_router, three_decodes)]
    ):
        text = f"{number} {long_text}"
        _, sent = await watch.ask(first, text=text)
        answer, again = await watch.ask(then, text=text)

        assert again.decode == sent.decode
        assert again.uncached_tokens < BLOCK_TOKENS
        assert answer.usage.cached_tokens > 0


async def test_routers_tell_each_other_what_they_send_and_what_has_ended(
    three_decodes: Any, other_router: Any, eventually: Any
) -> None:
    """Nobody else is there who could have asked them to."""
    async with three_decodes.hears(events_pb2.RequestsDispatched) as heard:

        async def both_tell() -> bool:
            await ask(three_decodes, "by the first", request_id="by the first")
            await ask(other_router, "by the other", request_id="by the other")
            sent = {(f.router, d.request_id) for f in heard for d in f.dispatched}
            ended = {(f.router, request_id) for f in heard for request_id in f.ended}
            both = {("router", "by the first"), ("router-b", "by the other")}
            return both <= sent and both <= ended

        await eventually(both_tell)


async def test_a_journal_with_an_index_and_a_sibling_in_it_replays_equally(
    three_decodes: Any, other_router: Any, watch: Any, long_text: str
) -> None:
    for number in range(4):
        await watch.ask(three_decodes, text=f"{number} {long_text}")
        await watch.ask(other_router, text=f"{number} {long_text}")

    met: set[type] = set()
    results = await asyncio.to_thread(replayed, three_decodes.path / "journal/router-b", met)

    assert [result.difference for result in results] == [None] * len(results)
    assert {
        events.KvChanged,
        events.KvSnapshotTaken,
        events.PeerRouterSeen,
        events.PeerRouterDispatched,
    } <= met


def replayed(directory: Path, met: set[type]) -> list[Any]:
    """Replay the journals there, noting what kinds of events they hold."""

    class Noting(RouterCore):
        def step(self, event: Any) -> Any:
            met.add(type(event))
            return super().step(event)

    def noting(state: Any) -> Noting:
        return Noting(state, policy_named(state.limits.policy))

    spec = CoreSpec(SPEC.name, SPEC.events, SPEC.state, noting)
    return list(replay_directory(directory, {SPEC.name: spec}))
