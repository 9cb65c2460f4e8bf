"""Requests for a model that sleeps: they wait in the queue as all others do, and the fleet is told.

Told at the first such request, and again every DEMAND_US while it is so: a fact that is lost,
or found nobody to act on it, delays a wake by no more than that.
"""

from argosy.router.core import effects
from argosy.router.core.state import RouterState

DEMAND_US = 500_000


def tell(state: RouterState, model: str, now_us: int) -> list[effects.PublishDemand]:
    """Say that requests for the model wait, unless that was just said."""
    told_us = state.demanded_us.get(model)
    if told_us is not None and now_us - told_us < DEMAND_US:
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
            held_requests=len(held),
            held_tokens=tokens,
            oldest_us=min(r.arrived_us for r in held),
        )
    ]
