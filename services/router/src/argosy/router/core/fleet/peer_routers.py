"""What other routers of the fleet sent: their dispatches weigh in this ledger and index too.

Best effort: a fact that is lost leaves an entry out, or in until `ledger_us` is over;
the instances' own reports correct both.
"""

from argosy.router.core import events
from argosy.router.core.fleet import load_ledger
from argosy.router.core.fleet.candidates import Seat, blocks_of, first_token_us
from argosy.router.core.state import RouterState

GUESS_US = 5_000_000
GONE_US = 5_000_000
"""A sibling this long silent is not told anything."""
SIBLINGS_MAX = 64


def heard(
    state: RouterState, event: events.SiblingSeen | events.SiblingDispatched | events.SiblingEnded
) -> None:
    """Another router said something."""
    match event:
        case events.SiblingSeen():
            seen(state, event)
        case events.SiblingDispatched():
            dispatched(state, event)
        case events.SiblingEnded():
            ended(state, event)


def seen(state: RouterState, event: events.SiblingSeen) -> None:
    """Another router is there: from now on it hears of dispatches."""
    if event.router in state.siblings or len(state.siblings) < SIBLINGS_MAX:
        state.siblings[event.router] = event.now_us


def forget(state: RouterState, now_us: int) -> None:
    """Drop those that have fallen silent."""
    for name in [n for n, seen_us in state.siblings.items() if now_us - seen_us > GONE_US]:
        del state.siblings[name]


def dispatched(state: RouterState, event: events.SiblingDispatched) -> None:
    """As if this router had sent it."""
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
        Seat(prefill, rank), event.uncached_tokens, event.now_us, {}
    )
    load_ledger.send(prefill, rank, key, event.uncached_tokens, blocks, event.now_us)
    state.index.guess(rank.holder, event.blocks, event.now_us + GUESS_US)
    target = decode.ranks[event.decode_rank]
    if target is not rank:
        blocks = blocks_of(decode, event.prompt_tokens)
        load_ledger.expect(target, key, blocks, done_us, told=False)


def ended(state: RouterState, event: events.SiblingEnded) -> None:
    """Its requests are over: what of them is still in the ledger goes."""
    keys = [f"{event.router}:{request_id}" for request_id in event.request_ids]
    for instance in state.instances.values():
        for rank in instance.ranks:
            for key in keys:
                if key in rank.sent or key in rank.inbound:
                    load_ledger.unsend(rank, key)
