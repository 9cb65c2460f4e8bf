"""The other routers of the fleet: their dispatches count in this ledger and index too.

Best effort: a fact that is lost leaves an entry out, or in until `ledger_us` is over;
the instances' own reports correct both.
"""

from argosy.router.core import events
from argosy.router.core.fleet import load_ledger
from argosy.router.core.fleet.candidates import Candidate
from argosy.router.core.fleet.estimates import blocks_of, first_token_us
from argosy.router.core.state import RouterState

SPECULATIVE_US = 5_000_000
"""As for this router's own dispatches (`placing`)."""
GONE_US = 5_000_000
"""A router that reports nothing for this long is gone: reports come four times a second."""
PEER_ROUTERS_MAX = 64
"""More routers than a fleet has; bounds what wrong names on the bus can make us keep."""


def heard(
    state: RouterState,
    event: events.PeerRouterSeen | events.PeerRouterDispatched | events.PeerRouterEnded,
) -> None:
    """Take in a fact of another router."""
    match event:
        case events.PeerRouterSeen():
            seen(state, event)
        case events.PeerRouterDispatched():
            dispatched(state, event)
        case events.PeerRouterEnded():
            ended(state, event)


def seen(state: RouterState, event: events.PeerRouterSeen) -> None:
    """Note that another router is there: from now on dispatches are published for it."""
    if event.router in state.peer_routers or len(state.peer_routers) < PEER_ROUTERS_MAX:
        state.peer_routers[event.router] = event.now_us


def forget(state: RouterState, now_us: int) -> None:
    """Drop routers that have not reported for GONE_US."""
    for name in [n for n, seen_us in state.peer_routers.items() if now_us - seen_us > GONE_US]:
        del state.peer_routers[name]


def dispatched(state: RouterState, event: events.PeerRouterDispatched) -> None:
    """Enter a dispatch as if this router had sent it."""
    key = f"{event.router}:{event.request_id}"
    prefill = state.instances.get(event.prefill)
    decode = state.instances.get(event.decode)
    if prefill is None or decode is None or not (prefill.live and decode.live):
        return
    if event.prefill_rank >= len(prefill.ranks) or event.decode_rank >= len(decode.ranks):
        return
    rank = prefill.ranks[event.prefill_rank]
    blocks = blocks_of(prefill, event.prompt_tokens)
    done_us = event.now_us + first_token_us(
        Candidate(prefill, rank), event.uncached_tokens, event.now_us, {}
    )
    load_ledger.send(prefill, rank, key, event.uncached_tokens, blocks, event.now_us)
    state.index.add_speculative(rank.holder, event.blocks, event.now_us + SPECULATIVE_US)
    target = decode.ranks[event.decode_rank]
    if target is not rank:
        blocks = blocks_of(decode, event.prompt_tokens)
        load_ledger.expect(target, key, blocks, done_us, first_token_seen=False)


def ended(state: RouterState, event: events.PeerRouterEnded) -> None:
    """Take requests of another router that ended out of the ledger."""
    keys = [f"{event.router}:{request_id}" for request_id in event.request_ids]
    for instance in state.instances.values():
        for rank in instance.ranks:
            for key in keys:
                if key in rank.sent or key in rank.inbound:
                    load_ledger.unsend(rank, key)
