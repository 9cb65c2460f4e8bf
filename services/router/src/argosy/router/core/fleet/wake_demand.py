"""Publishes demand for models that sleep; the requests wait in the queue as all others do.

The demand is published with the first such request, and again every DEMAND_US while requests
wait: a fact that is lost, or that no service acted on, delays a wake by no more than that.
"""

from argosy.router.core import effects
from argosy.router.core.state import RouterState

DEMAND_US = 500_000
"""Short beside any wake, which takes a second or more."""


def demand(state: RouterState, model: str, now_us: int) -> list[effects.PublishDemand]:
    """The demand for a model; nothing if it was published less than DEMAND_US ago."""
    published_us = state.demanded_us.get(model)
    if published_us is not None and now_us - published_us < DEMAND_US:
        return []
    held = [r for r in state.requests.values() if r.queued and r.model == model]
    if not held:
        state.demanded_us.pop(model, None)
        return []
    state.demanded_us[model] = now_us
    tokens = sum(request.prompt_tokens for request in held)
    return [
        effects.PublishDemand(
            model=model,
            queued_requests=len(held),
            queued_tokens=tokens,
            oldest_us=min(r.arrived_us for r in held),
        )
    ]
