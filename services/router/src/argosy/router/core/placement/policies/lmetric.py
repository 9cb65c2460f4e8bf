"""LMetric: least (1 + new prefill tokens) x (1 + batch size). No settings.

Source: arXiv 2603.15202, with the ones that keep zeros from tying.
"""

from argosy.router.core.fleet.candidates import (
    Choice,
    Planned,
    Seat,
    Seats,
    uncached_tokens,
    with_room,
)
from argosy.router.core.state import Request, RouterState


def choose(
    state: RouterState, seats: Seats, request: Request, now_us: int, planned: Planned
) -> Choice | None:
    """The least product; a disaggregated decode is chosen by its batch alone."""

    def product(seat: Seat) -> tuple[int, str]:
        new_tokens = seat.rank.prefill_tokens + uncached_tokens(seat, request)
        return (1 + new_tokens) * (1 + seat.rank.requests), seat.rank.holder

    decodes = with_room(seats.decode, request)
    if not decodes:
        return None
    if not seats.prefill:
        both = min(decodes, key=product)
        return Choice(both, both, uncached_tokens(both, request), "least tokens x batch")
    decode = min(decodes, key=lambda s: (s.rank.requests, s.rank.kv_blocks, s.rank.holder))
    prefill = min(seats.prefill, key=product)
    return Choice(prefill, decode, uncached_tokens(prefill, request), "least tokens x batch")
