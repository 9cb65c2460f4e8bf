"""Dynamo's published cost: prefill blocks waiting and uncached, plus decode blocks.

Source: ai-dynamo/dynamo, lib/kv-router/src/scheduling/selector.rs, defaults (device
credit 1, temperature 0); a disaggregated decode is chosen by its blocks alone.
"""

from argosy.router.core.fleet.candidates import (
    Choice,
    Planned,
    Seat,
    Seats,
    blocks_of,
    uncached_tokens,
    with_room,
)
from argosy.router.core.state import Request, RouterState


def choose(
    state: RouterState, seats: Seats, request: Request, now_us: int, planned: Planned
) -> Choice | None:
    """The least cost in blocks."""

    def decode_blocks(seat: Seat) -> int:
        return seat.rank.kv_blocks + blocks_of(seat.instance, request.prompt_tokens)

    def prefill_blocks(seat: Seat) -> float:
        tokens = seat.rank.prefill_tokens + uncached_tokens(seat, request)
        return tokens / seat.instance.block_tokens

    decodes = with_room(seats.decode, request)
    if not decodes:
        return None
    if not seats.prefill:
        both = min(decodes, key=lambda s: (prefill_blocks(s) + decode_blocks(s), s.rank.holder))
        return Choice(both, both, uncached_tokens(both, request), "least cost in blocks")
    decode = min(decodes, key=lambda s: (decode_blocks(s), s.rank.holder))
    prefill = min(seats.prefill, key=lambda s: (prefill_blocks(s), s.rank.holder))
    return Choice(prefill, decode, uncached_tokens(prefill, request), "least cost in blocks")
