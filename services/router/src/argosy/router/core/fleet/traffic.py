"""What callers ask of this router, in sums: what the fleet is sized by.

A request counts once: neither a failed attempt's successor nor a direct caller's way back
here is another one. Its arrival is when it reaches the core, tokenized.
"""

from argosy.domain import histogram
from argosy.router.core import effects, events
from argosy.router.core.state import RouterState, TrackedRequest

NEVER_SERVED = frozenset({"MODEL_NOT_FOUND", "PROMPT_TOO_LONG", "BAD_REQUEST"})
"""Refusals that no instance more would have spared the caller."""


def arrived(
    state: RouterState, event: events.RequestArrived, refusal: effects.Reject | None
) -> None:
    """Count what is asked for, served or not."""
    if not is_new(event) or (refusal is not None and refusal.reason in NEVER_SERVED):
        return
    traffic, tokens = state.traffic, max(1, event.prompt_tokens)
    traffic.requests += 1
    traffic.prompt_tokens += tokens
    traffic.prompt_tokens_squared += float(tokens * tokens)


def is_new(event: events.RequestArrived) -> bool:
    """Whether no instance has been tried for it, here or by way of another router."""
    return event.attempt == 0 and not event.failed_instance


def dispatched(state: RouterState, request: TrackedRequest, uncached_tokens: int) -> None:
    """Count what was cached of a request that is sent for the first time."""
    if not request.is_new:
        return
    request.is_new = False
    state.traffic.cached_tokens += max(0, request.prompt_tokens - uncached_tokens)
    state.traffic.started_requests += request.direct


def started(state: RouterState, request: TrackedRequest, now_us: int) -> None:
    """Count a first token, unless this answer has had one."""
    if request.started:
        return
    request.started = True
    state.traffic.started_requests += 1
    histogram.count(state.traffic.ttft_buckets, max(0, now_us - request.arrived_us) / 1e3)
