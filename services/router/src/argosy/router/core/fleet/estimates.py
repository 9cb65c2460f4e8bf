"""What policies and rounds ask of a rank: cached tokens, room, and how long things would take.

`opens_us`, `soonest_us` and `first_token_us` advance the instance's ledger to `now_us`
(load_ledger.advance) before they read it: steps that must be over by then are ended, and the
next ones begin with the length that the ledger implies at that moment. They change nothing else,
and asked again at the same time they answer the same.
"""

from collections.abc import Iterable

from argosy.domain.timing import distance
from argosy.router.core.fleet import load_ledger
from argosy.router.core.fleet.candidates import Candidate, Candidates, Planned
from argosy.router.core.state import KnownInstance, TrackedRequest

SHARED_DEPTH = 4
"""While tenants compete, a rank is open only when less than a quarter of its next step is taken:
the next request of a quiet tenant waits for what is in it."""


def uncached_tokens(candidate: Candidate, request: TrackedRequest) -> int:
    """Prompt tokens the rank would have to compute: those neither cached there nor in a store.

    At least 1: the last token is always computed.
    """
    hit = max(request.hits.get(candidate.rank.holder, 0), request.stored_blocks)
    return max(1, request.prompt_tokens - hit * candidate.instance.block_tokens)


def fetch_us(candidate: Candidate, request: TrackedRequest) -> int:
    """Microseconds to fetch from stores the blocks that they have beyond the rank's own cache."""
    blocks = request.stored_blocks - request.hits.get(candidate.rank.holder, 0)
    if blocks <= 0:
        return 0
    instance = candidate.instance
    gb = blocks * instance.block_tokens * instance.timing.kv_bytes_per_token / 1e9
    return round(1e3 * (request.stored_ms + gb * request.stored_ms_per_gb))


def best_hit_tokens(request: TrackedRequest, candidates: Candidates) -> int:
    """Cached tokens of the prompt, at the rank or store that has most of them."""
    best = max(request.stored_blocks, *request.hits.values(), 0)
    return best * candidates.decode[0].instance.block_tokens if best and candidates.decode else 0


def blocks_of(instance: KnownInstance, tokens: int) -> int:
    """KV blocks that this many tokens take."""
    return -(-tokens // instance.block_tokens)


def has_room(candidate: Candidate, request: TrackedRequest, extra_tokens: int = 0) -> bool:
    """Whether the rank can take the request and decode it, as far as we know."""
    instance, rank = candidate
    if rank.requests >= instance.rank_requests_max:
        return False
    need = blocks_of(instance, request.prompt_tokens + extra_tokens)
    return rank.kv_blocks + need <= instance.kv_total_blocks or rank.requests == 0


def with_room(
    candidates: Iterable[Candidate], request: TrackedRequest, extra_tokens: int = 0
) -> list[Candidate]:
    """Candidates with room; if none has any, those that lack it for `extra_tokens` only."""
    candidates = list(candidates)
    return [c for c in candidates if has_room(c, request, extra_tokens)] or (
        [c for c in candidates if has_room(c, request)] if extra_tokens else []
    )


def joins_step(candidate: Candidate, request: TrackedRequest, now_us: int) -> bool:
    """Whether a step starts at this rank just now that the request may still join.

    A request with cached KV there may not: some of it could be what this very step
    is to compute, and only a later step can use that.
    """
    return (
        candidate.instance.step_started_us >= now_us and candidate.rank.holder not in request.hits
    )


def opens_us(
    candidate: Candidate, now_us: int, planned: Planned, *, joins: bool = True, shared: bool = False
) -> int:
    """Microseconds until a step of this rank starts that has tokens to spare; 0: now.

    joins: whether a step that starts just now will do.
    shared: several tenants compete, and the next request waits for what is sent now: most
    of the step has to be free (SHARED_DEPTH).
    In lockstep, a rank without work waits for the others' step to end.
    """
    instance, rank = candidate
    load_ledger.advance(instance, now_us)
    if not instance.busy and not planned:
        return 0
    backlog = rank.backlog_tokens + planned.get(rank.holder, 0)
    wait = max(0, instance.step_ends_us - now_us) if instance.busy else 0
    starting = joins and instance.busy and instance.step_started_us >= now_us
    if starting and backlog < instance.tokens_per_step - rank.step_tokens:
        return 0
    per_step = instance.tokens_per_step
    most = per_step // SHARED_DEPTH if shared else per_step
    steps = 0 if backlog < most else 1 + (backlog - most) // per_step
    if steps:
        full = min(backlog, steps * per_step)
        wait += round(1e3 * load_ledger.prefill_ms(instance, rank, full))
    return wait


def fits_step(candidate: Candidate, tokens: int, planned: Planned, *, joins: bool) -> bool:
    """Whether the step that the rank starts next takes a whole prompt of this many tokens.

    A step with nothing else in it takes any: a prompt longer than a step has to begin somewhere.
    Behind others, the rest of the prompt would delay the requests that come next by a step.
    joins: whether a step that starts just now will do.
    """
    instance, rank = candidate
    ahead = rank.backlog_tokens + planned.get(rank.holder, 0)
    if joins and instance.busy:
        if not rank.step_tokens:
            return True
        ahead += rank.step_tokens
    return not ahead or ahead + tokens <= instance.tokens_per_step


def soonest_us(candidates: list[Candidate], now_us: int, planned: Planned) -> int:
    """Microseconds until the first of these ranks opens."""
    soonest = 1 << 62
    for candidate in candidates:
        soonest = min(soonest, opens_us(candidate, now_us, planned))
        if not soonest:
            break
    return soonest


def first_token_us(
    candidate: Candidate, tokens: int, now_us: int, planned: Planned, *, joins: bool = True
) -> int:
    """Microseconds until the rank has prefilled this many more tokens, behind its other work."""
    instance, rank = candidate
    load_ledger.advance(instance, now_us)
    wait = 0
    total = rank.backlog_tokens + planned.get(rank.holder, 0) + tokens
    if instance.busy:
        if joins and instance.step_started_us >= now_us:
            total += rank.step_tokens
        else:
            wait = max(0, instance.step_ends_us - now_us)
    if len(instance.ranks) > 1:
        # In lockstep the steps it takes are as long as the heaviest rank's.
        others = max(other.backlog_tokens for other in instance.ranks)
        per_step = instance.tokens_per_step
        total = max(total, min(others, -(-total // per_step) * per_step))
    return wait + round(1e3 * load_ledger.prefill_ms(instance, rank, total))


def transfer_ms(source: KnownInstance, target: KnownInstance, tokens: int) -> float:
    """Milliseconds to move the KV of this many tokens from one instance to another."""
    far = distance(source.node, source.rack, target.node, target.rack)
    return target.timing.kv_transfer_ms(tokens, far)


def prefill_us(candidate: Candidate, tokens: int) -> int:
    """Microseconds the rank takes to prefill this many prompt tokens."""
    return round(1e3 * load_ledger.prefill_ms(candidate.instance, candidate.rank, tokens))
