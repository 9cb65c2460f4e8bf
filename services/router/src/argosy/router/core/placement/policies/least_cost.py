"""The least cost in seconds, staggered. The default.

cost = wait for the rank + fetch of what only stores have + prefill of the rest
     + transfer of the KV
     + what the prefill takes from answers that run there
     + what decoding there will cost
     + SPREAD_MS times the new KV the rank was sent recently, over the mean of all ranks: of ranks
       that are alike otherwise, the one whose cache is written least (against herding)

Time taken from tokens is priced by how near the target a token's time already is
(`rate`): next to nothing while answers run well inside it, a second for a second at
it. So at low load only TTFT counts, and as decodes fill up prefills keep away from them:
which instance prefills and which decodes follows, request by request.

Local or apart: a decode instance prefills by itself when that is cheaper than prefill
elsewhere plus the handoff. Held against it is a share of its time, OWN_WORK, since
answers will come to be held up by it.
"""

from typing import NamedTuple

from argosy.domain.placement_cost import HANDOFF_MS, OWN_WORK, SPREAD_MS, price_of_answer_time
from argosy.router.core.fleet import load_ledger
from argosy.router.core.fleet.balance import without_outliers
from argosy.router.core.fleet.candidates import Candidate, Candidates, Choice, Planned
from argosy.router.core.fleet.estimates import (
    blocks_of,
    fetch_us,
    first_token_us,
    joins_step,
    transfer_ms,
    uncached_tokens,
    with_room,
)
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.state import RouterState, TrackedRequest

BUSY_MAX = 0.9
"""A rank that prefills all the time would have an infinite time per token; this bounds it."""


class ScoredRank(NamedTuple):
    """A rank that could decode, and what that would cost in seconds."""

    cost: float
    candidate: Candidate
    step_ms: float
    """One decode step of what runs there now."""
    price: float
    """Of a second taken from an answer there."""


def choose(
    state: RouterState,
    candidates: Candidates,
    request: TrackedRequest,
    now_us: int,
    planned: Planned,
) -> Choice | None:
    """The cheapest pair of ranks, or one rank for both."""
    prefills, decodes = candidates.shortlist(request, now_us)
    answer_tokens = min(request.max_tokens, state.answer_tokens)
    decodes = without_outliers(with_room(decodes, request, round(answer_tokens)))
    if not decodes:
        return None
    rated = [rate(state, candidate, request, answer_tokens, now_us) for candidate in decodes]
    best_cost, best = float("inf"), rated[0].candidate
    for r in rated:
        cost = r.cost + prefill_cost(state, candidates, r.candidate, request, now_us, planned, r)
        if cost < best_cost:
            best_cost, best = cost, r.candidate
    choice = Choice(best, best, uncached_tokens(best, request), "cheapest, local")
    apart = prefills or [
        candidate for candidate in decodes if candidate.instance.role == "flexible"
    ]
    if not apart:
        return choice
    target = min(rated, key=lambda r: (r.cost, r.candidate.rank.holder))
    to_move = uncached_tokens(target.candidate, request)
    by_rank = {id(r.candidate.rank): r for r in rated}
    for candidate in apart:
        if candidate.rank is target.candidate.rank:
            continue
        running = by_rank.get(id(candidate.rank))
        cost = target.cost + prefill_cost(
            state, candidates, candidate, request, now_us, planned, running
        )
        cost += HANDOFF_MS / 1e3
        cost += transfer_ms(candidate.instance, target.candidate.instance, to_move) / 1e3
        if cost < best_cost:
            best_cost = cost
            choice = Choice(
                candidate, target.candidate, uncached_tokens(candidate, request), "cheapest, apart"
            )
    return choice


def prefill_cost(
    state: RouterState,
    candidates: Candidates,
    candidate: Candidate,
    request: TrackedRequest,
    now_us: int,
    planned: Planned,
    running: ScoredRank | None,
) -> float:
    """Seconds until the prompt is prefilled there, and what that does to others."""
    instance, rank = candidate
    tokens = uncached_tokens(candidate, request)
    joins = joins_step(candidate, request, now_us)
    cost = first_token_us(candidate, tokens, now_us, planned, joins=joins) / 1e6
    if request.stored_blocks:
        cost += fetch_us(candidate, request) / 1e6
    price = 0.0
    if joins and instance.busy:
        # The requests in the step already wait for all of it.
        price += len(rank.sent)
    if running is not None:
        price += rank.running_requests * running.price
        if candidates.prefill:
            price += OWN_WORK
    if price:
        cost += price * instance.timing.prompt_ms(tokens, instance.tokens_per_step) / 1e3
    if candidates.written:
        cost += SPREAD_MS / 1e3 * load_ledger.written(rank, now_us) / candidates.written
    return cost


def rate(
    state: RouterState,
    candidate: Candidate,
    request: TrackedRequest,
    answer_tokens: float,
    now_us: int,
) -> ScoredRank:
    """Seconds the answer takes there, at their price. The least is the least a·batch + b·KV of
    all ranks: what keeps the slowest of a lockstep quick.
    """
    instance, rank = candidate
    blocks = blocks_of(instance, request.prompt_tokens)
    held, running = rank.kv_blocks, rank.requests
    before_ms = load_ledger.decode_step_ms(instance, held, running)
    after_ms = load_ledger.decode_step_ms(instance, held + blocks, running + 1)
    itl_ms = after_ms / (1 - min(BUSY_MAX, load_ledger.busy_share(rank, now_us)))
    price = price_of_answer_time(itl_ms, state.limits.slo.tpot_ms)
    return ScoredRank(itl_ms * answer_tokens / 1e3 * price, candidate, before_ms, price)


POLICY = RoutingPolicy(choose, staggered=True)
