"""Argosy's own: the least cost in seconds, staggered.

cost = wait for the rank + prefill of what is not cached + transfer of the KV
     + what the prefill takes from answers that run there
     + what decoding there will cost, itself and those beside it
     + what its new KV pushes out of a cache that is written much (against herding)

Time taken from tokens is priced by how near the target a token's time already is
(`itl_price`): free while answers run well inside it, dear at it. So at low load only
TTFT counts, and as decodes fill up prefills keep away from them: which instance
prefills and which decodes follows, request by request.

Local or apart: a decode instance prefills by itself when that is cheaper than prefill
elsewhere plus the transfer, with OWN_WORK held against it, since answers will come.
"""

from argosy.router.core import ledger
from argosy.router.core.seats import (
    Choice,
    Planned,
    Seat,
    Seats,
    prefill_us,
    transfer_ms,
    uncached_tokens,
    wait_us,
    with_room,
)
from argosy.router.core.state import Request, RouterState

OWN_WORK = 0.25
PRICE_POWER = 4
PUSHED_OUT = 0.5


def choose(
    state: RouterState, seats: Seats, request: Request, now_us: int, planned: Planned
) -> Choice | None:
    """The cheapest pair of ranks, or one rank for both."""
    answer_tokens = min(request.max_tokens, state.answer_tokens)
    decodes = with_room(seats.decode, request, round(answer_tokens))
    if not decodes:
        return None
    written = mean_written(seats, now_us)
    pressure = [decode_cost(state, seat, request, answer_tokens, now_us) for seat in decodes]
    best: tuple[float, str] | None = None
    choice: Choice | None = None
    for seat, decoding in zip(decodes, pressure, strict=True):
        cost = prefill_cost(state, seat, request, now_us, planned, written)
        if seats.prefill:
            tokens = uncached_tokens(seat, request)
            cost += OWN_WORK * prefill_us(seat, tokens) / 1e6
        key = (cost + decoding, seat.rank.holder)
        if best is None or key < best:
            best = key
            choice = Choice(seat, seat, uncached_tokens(seat, request), "cheapest, local")
    apart = seats.prefill or (seats.decode if decodes[0].instance.role == "free" else [])
    if not apart:
        return choice
    least, decode = min(
        ((cost, n) for n, cost in enumerate(pressure)), key=lambda pair: pair
    )
    target = decodes[decode]
    for seat in apart:
        if seat.rank is target.rank:
            continue
        cost = prefill_cost(state, seat, request, now_us, planned, written)
        moved = transfer_ms(seat.instance, target.instance, uncached_tokens(target, request))
        key = (cost + least + moved / 1e3, seat.rank.holder)
        if best is None or key < best:
            best = key
            choice = Choice(seat, target, uncached_tokens(seat, request), "cheapest, apart")
    return choice


def itl_price(state: RouterState, itl_ms: float) -> float:
    """What a second taken from an answer is worth, in seconds of waiting for one's first token."""
    return min(1.0, (itl_ms / state.limits.itl_target_ms) ** PRICE_POWER)


def prefill_cost(
    state: RouterState, seat: Seat, request: Request, now_us: int, planned: Planned, written: float
) -> float:
    """Seconds until the prompt is prefilled there, and what that does to others."""
    instance, rank = seat
    tokens = uncached_tokens(seat, request)
    took_s = prefill_us(seat, tokens) / 1e6
    cost = wait_us(seat, now_us, planned) / 1e6 + took_s
    if instance.role != "prefill" and rank.running_requests:
        itl_ms = token_ms(seat, now_us)
        cost += took_s * rank.running_requests * itl_price(state, itl_ms)
    if written > 0:
        excess = ledger.written(rank, now_us) / written - 1
        cost += PUSHED_OUT * state.cached_share * took_s * excess
    return cost


def decode_cost(
    state: RouterState, seat: Seat, request: Request, answer_tokens: float, now_us: int
) -> float:
    """Seconds the answer takes there and takes from others, at their price."""
    instance, rank = seat
    blocks = -(-request.prompt_tokens // instance.block_tokens)
    before_ms = ledger.decode_ms(instance, rank)
    after_ms = ledger.decode_ms(instance, rank, blocks, 1)
    busy = ledger.busy_share(rank, now_us)
    itl_ms = after_ms / max(0.1, 1 - busy)
    slower = (after_ms - before_ms) * rank.requests
    return (itl_ms + slower) * answer_tokens / 1e3 * itl_price(state, itl_ms)


def token_ms(seat: Seat, now_us: int) -> float:
    """Time per token of answers there, prefills in between included."""
    busy = ledger.busy_share(seat.rank, now_us)
    return ledger.decode_ms(seat.instance, seat.rank) / max(0.1, 1 - busy)


def mean_written(seats: Seats, now_us: int) -> float:
    """Tokens of new KV of late, the mean over ranks that prefill."""
    ranks = [seat.rank for seat in seats.prefilling]
    return sum(ledger.written(rank, now_us) for rank in ranks) / len(ranks)
