"""Admission and order: priority bands, tenants' fair shares, ageing, early refusal.

Order: higher bands first, strictly. Within a band the tenant goes first for which least was
computed recently: prompt tokens without KV and answer tokens (VTC, OSDI '24, charges the whole
prompt), halved every SERVED_HALF_US (least attained service, as in llm-d's flow control). So a
tenant that asks for less than its share does not wait for another's backlog, and a pause earns
no more credit than that time. A tenant's own requests go in order of arrival, except that a
short one may overtake a long one that came just before. So that nothing starves, every
AGED_TURN-th dispatch goes to the longest waiting request over AGED_US, whatever its band.

Bounds: `queue_limit` requests wait, of one tenant `tenant_queue_limit`, and no more than
`queue_bytes_max` of prompts; beyond it a request is refused at once. TENANTS_MAX tenants
are remembered.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace
from itertools import islice

from argosy.router.core import effects, events
from argosy.router.core.fleet.candidates import Candidates
from argosy.router.core.fleet.estimates import best_hit_tokens, blocks_of, prefill_us, soonest_us
from argosy.router.core.fleet.load_ledger import decayed
from argosy.router.core.state import RouterState, Tenant, TrackedRequest

SERVED_HALF_US = 30_000_000
"""Longer than a burst, so that a burst is paid for; short enough that an hour ago is forgotten."""
AGED_US = 5_000_000
"""A request this old is more than a promise late: the fair order has failed it."""
STARVED_US = 20_000_000
"""By then a request goes next at once: an AGED_TURN-th dispatch may not come for long."""
AGED_TURN = 32
"""One dispatch in 32, about 3 %, is out of order: the bands ahead hardly notice."""
TENANTS_MAX = 10_000
"""Bounds memory. A forgotten tenant only loses the record of what it was served."""
SMOOTHING = 0.02
"""Weight of the newest answer: fifty answers or so decide."""
RETRY_MS_MAX = 30_000
"""Predictions beyond half a minute are unreliable: a caller should ask again by then."""
TOKEN_BYTES = 40
"""Memory of a token of a waiting prompt: an int object, and a pointer to it in a list."""


def refusal(state: RouterState, event: events.RequestArrived) -> effects.Reject | None:
    """Why a request cannot be taken at all, if so."""
    request_id, limits = event.request_id, state.limits
    context = state.models.get(event.model)
    if not state.models:
        return effects.Reject(
            request_id=request_id,
            reason="NOT_READY",
            message="no instance has joined yet",
            retry_after_ms=1000,
        )
    if context is None:
        known = ", ".join(sorted(state.models))
        message = f"no model '{event.model}' here; there are: {known}"
        return effects.Reject(
            request_id=request_id, reason="MODEL_NOT_FOUND", message=message, retry_after_ms=0
        )
    if event.prompt_tokens + 1 > context:
        message = (
            # OpenAI's words, which clients go by.
            f"This model's maximum context length is {context} tokens, the answer included. "
            f"However, the prompt has {event.prompt_tokens} tokens: shorten it"
        )
        return effects.Reject(
            request_id=request_id, reason="PROMPT_TOO_LONG", message=message, retry_after_ms=0
        )
    if request_id in state.requests:
        message = f"request id {request_id} is in use; choose another, or leave it out"
        return effects.Reject(
            request_id=request_id, reason="BAD_REQUEST", message=message, retry_after_ms=0
        )
    if event.failures >= limits.attempts_max:
        message = f"{event.failures} instances in a row failed this request"
        return effects.Reject(
            request_id=request_id, reason="NO_INSTANCE", message=message, retry_after_ms=1000
        )
    if state.queued_requests >= limits.queue_limit:
        message = f"{state.queued_requests} requests are waiting, the most allowed"
        return effects.Reject(
            request_id=request_id, reason="OVERLOADED", message=message, retry_after_ms=1000
        )
    waiting_bytes = sum(state.queued_by_band.values()) * TOKEN_BYTES
    if waiting_bytes + event.prompt_tokens * TOKEN_BYTES > limits.queue_bytes_max:
        message = f"{waiting_bytes >> 20} MiB of prompts are waiting, the most allowed"
        return effects.Reject(
            request_id=request_id, reason="OVERLOADED", message=message, retry_after_ms=1000
        )
    tenant = state.tenants.get(event.tenant)
    waiting = sum(map(len, tenant.waiting.values())) if tenant else 0
    if 0 < limits.tenant_queue_limit <= waiting:
        message = f"{waiting} requests of tenant '{event.tenant}' are waiting, the most allowed"
        return effects.Reject(
            request_id=request_id, reason="OVERLOADED", message=message, retry_after_ms=1000
        )
    return None


def too_late(
    state: RouterState,
    request: TrackedRequest,
    request_id: str,
    candidates: Candidates,
    now_us: int,
) -> effects.Reject | None:
    """Refuse early what would miss its deadline, or the limit on TTFT, before any work.

    A prompt that takes longer than the limit by itself is judged by its wait alone: no other
    time would make it shorter.

    Predicted: the least loaded rank's wait, the work queued ahead of it here shared among
    all ranks, its own prefill, and the wait for KV room where it would be decoded.
    """
    left_us = request.deadline_us - now_us
    limit_us = state.limits.ttft_limit_us or left_us
    if request.priority > 0:
        limit_us = left_us
    if not candidates.decode:
        return None
    own_us, wait = predicted_ttft_us(state, request, candidates, now_us)
    predicted_us = own_us + wait
    judged_us = wait if own_us > limit_us else predicted_us
    if judged_us <= limit_us and predicted_us <= left_us:
        return None
    retry_ms = min(RETRY_MS_MAX, max(100, (predicted_us - limit_us) // 1000))
    message = (
        f"the first token is predicted in {predicted_us / 1e6:.1f} s, "
        f"over the limit of {min(left_us, limit_us) / 1e6:.1f} s; try again later"
    )
    return effects.Reject(
        request_id=request_id, reason="OVERLOADED", message=message, retry_after_ms=retry_ms
    )


def predicted_ttft_us(
    state: RouterState, request: TrackedRequest, candidates: Candidates, now_us: int
) -> tuple[int, int]:
    """See too_late: (its own prefill, all it waits for), microseconds."""
    able = candidates.prefilling
    uncached = request.prompt_tokens - best_hit_tokens(request, candidates)
    own_us = prefill_us(able[0], max(1, uncached))
    wait = soonest_us(able, now_us, {})
    ahead_tokens = round(tokens_ahead(state, request) * (1 - state.cached_share))
    ahead_us = prefill_us(able[0], ahead_tokens) // len(able) if ahead_tokens else 0
    return own_us, wait + ahead_us + decode_wait_us(state, request, candidates)


def tokens_ahead(state: RouterState, request: TrackedRequest) -> int:
    """Prompt tokens that go before the request's: of higher bands all; of its own band its
    tenant's, and of each other tenant no more than fair sharing lets pass meanwhile.
    """
    band = request.priority
    above = sum(tokens for other, tokens in state.queued_by_band.items() if other > band)
    if not state.queued_by_band.get(band):
        return above
    mine = state.tenants.get(request.tenant)
    own = mine.waiting_tokens.get(band, 0) if mine is not None else 0
    fair = own + request.prompt_tokens
    others = sum(
        min(fair, tenant.waiting_tokens[band])
        for tenant in map(state.tenants.__getitem__, state.waiting_tenants[band])
        if tenant is not mine
    )
    return above + own + others


def decode_wait_us(state: RouterState, request: TrackedRequest, candidates: Candidates) -> int:
    """How long until KV for the request comes free, at the rate at which answers end."""
    if not state.freed_blocks_per_s:
        return 0
    need = blocks_of(candidates.decode[0].instance, request.prompt_tokens)
    lacking = need
    for candidate in candidates.decode:
        lacking = min(lacking, need + candidate.rank.kv_blocks - candidate.instance.kv_total_blocks)
        if lacking <= 0:
            return 0
    return round(1e6 * lacking / state.freed_blocks_per_s)


def enqueue(state: RouterState, request_id: str) -> None:
    """Put a request in the queue: by arrival, so a failed one goes ahead of later ones."""
    request = state.requests[request_id]
    request.queued = True
    # Taken out and put in again: `tenants` is in order of use.
    tenant = state.tenants.pop(request.tenant, None) or Tenant()
    state.tenants[request.tenant] = tenant
    band, tokens = request.priority, request.prompt_tokens
    if band not in tenant.waiting:
        tenant.waiting[band] = []
        insort(state.waiting_tenants.setdefault(band, []), request.tenant)
    insort(tenant.waiting[band], request_id, key=lambda other: state.requests[other].due_us)
    state.queued_requests += 1
    state.queued_by_band[band] = state.queued_by_band.get(band, 0) + tokens
    tenant.waiting_tokens[band] = tenant.waiting_tokens.get(band, 0) + tokens


def dequeue(state: RouterState, request_id: str) -> None:
    """Take a request out of the queue."""
    request = state.requests[request_id]
    request.queued = False
    tenant, band = state.tenants[request.tenant], request.priority
    tenant.waiting[band].remove(request_id)
    tenant.waiting_tokens[band] -= request.prompt_tokens
    state.queued_requests -= 1
    state.queued_by_band[band] -= request.prompt_tokens
    if tenant.waiting[band]:
        return
    del tenant.waiting[band], tenant.waiting_tokens[band]
    names = state.waiting_tenants[band]
    del names[bisect_left(names, request.tenant)]
    if not names:
        del state.waiting_tenants[band], state.queued_by_band[band]


def in_order(state: RouterState, aged: str | None, now_us: int) -> Iterator[str]:
    """Waiting requests, next first. Each one yielded counts as served to its tenant, here only.

    Only tenants with waiting requests are looked at: a router remembers thousands of others.
    """
    if aged is not None:
        yield aged
    for band in sorted(state.queued_by_band, reverse=True):
        heap = [
            (served_tokens(state.tenants[name], now_us), name)
            for name in state.waiting_tenants.get(band, ())
        ]
        heapify(heap)
        # Copies, last one next: the caller may dequeue what it was given before it asks again.
        queues: dict[str, list[str]] = {}
        while heap:
            served, name = heap[0]
            queue = queues.get(name)
            if queue is None:
                queue = queues[name] = state.tenants[name].waiting.get(band, [])[::-1]
            if not queue:
                heappop(heap)
                continue
            request_id = queue.pop()
            heapreplace(heap, (served + state.requests[request_id].prompt_tokens, name))
            if request_id != aged:
                yield request_id


def aged_request(state: RouterState, now_us: int) -> str | None:
    """The longest waiting request, if it goes next whatever its band and tenant.

    It does when it has waited for AGED_US and this is an AGED_TURN-th dispatch, or when it has
    waited for STARVED_US.
    """
    heads = [
        state.tenants[name].waiting[band][0]
        for band, names in state.waiting_tenants.items()
        for name in names
    ]
    best = min(heads, key=lambda r: (state.requests[r].arrived_us, r), default=None)
    if best is None:
        return None
    waited_us = now_us - state.requests[best].arrived_us
    if state.decision_sequence % AGED_TURN and waited_us < STARVED_US:
        return None
    return best if waited_us >= AGED_US else None


def served_tokens(tenant: Tenant, now_us: int) -> float:
    """Recent tokens computed for a tenant: those of SERVED_HALF_US ago count half."""
    return decayed(tenant.served_tokens, now_us - tenant.served_us, SERVED_HALF_US)


def charge(state: RouterState, tenant_name: str, tokens: float, now_us: int) -> None:
    """Add tokens computed for a tenant; negative to correct an estimate that was too high."""
    tenant = state.tenants.get(tenant_name)
    if tenant is not None:
        tenant.served_tokens = max(0.0, served_tokens(tenant, now_us) + tokens)
        tenant.served_us = now_us


def learn(state: RouterState, request: TrackedRequest, event: events.RequestEnded) -> None:
    """Learn from an answer that ended: the length of answers, and what its tenant really used."""
    if event.output_tokens:
        state.answer_tokens += SMOOTHING * (event.output_tokens - state.answer_tokens)
    charged = float(event.output_tokens)
    if event.cached_tokens is not None:
        uncached = request.prompt_tokens - event.cached_tokens
        charged += uncached - request.uncached_tokens
    charge(state, request.tenant, charged, event.now_us)


def forget_tenants(state: RouterState) -> None:
    """Beyond TENANTS_MAX, forget those without waiting requests that were used longest ago."""
    excess = len(state.tenants) - TENANTS_MAX
    if excess > 0:
        idle = (name for name, tenant in state.tenants.items() if not tenant.waiting)
        for name in list(islice(idle, excess)):
            del state.tenants[name]
