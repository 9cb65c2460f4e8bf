"""Each in turn, whatever they have to do. The baseline of staggered scheduling."""

from argosy.router.core.fleet.candidates import (
    Choice,
    Planned,
    Seats,
    uncached_tokens,
    with_room,
)
from argosy.router.core.state import Request, RouterState


def choose(
    state: RouterState, seats: Seats, request: Request, now_us: int, planned: Planned
) -> Choice | None:
    """The next in order, for prefill and for decode apart."""
    decodes = with_room(seats.decode, request)
    if not decodes:
        return None
    decode = decodes[state.turns % len(decodes)]
    prefill = seats.prefill[state.turns % len(seats.prefill)] if seats.prefill else decode
    return Choice(prefill, decode, uncached_tokens(prefill, request), "its turn")
