"""What holds whatever is known: without news nothing is taken away, and nothing stays stuck.

Routers silent for `stale_us`: what is there is kept. For `decay_us`: the fleet goes to what its
file asks for, step by step, up or down. Zero traffic is news, and no gap.
"""

from argosy.autoscaler.core import events as on
from argosy.autoscaler.core import members
from argosy.autoscaler.core.bounds import FleetBounds
from argosy.autoscaler.core.state import ScalerState
from argosy.autoscaler.core.targets import Target

FRESH, HELD, DECAYED = "fresh", "held", "decayed"


def signals(state: ScalerState, now_us: int) -> str:
    """What is known of traffic: fresh, held (nothing new), or decayed (nothing for long)."""
    silent_us = now_us - state.heard_us
    if silent_us <= state.limits.stale_us:
        return FRESH
    return HELD if silent_us <= state.limits.decay_us else DECAYED


def without_news(state: ScalerState, kept: FleetBounds, now_us: int) -> dict[str, Target] | None:
    """What is to be while nothing is known; None: nothing is to change.

    Nothing was ever known (a start with no router up yet): nothing changes either.
    """
    assert state.scaling is not None
    if signals(state, now_us) == HELD or state.heard_us < 0:
        return None
    found = {}
    for role in on.ROLES:
        pool, bounds = state.scaling.pools[role], kept.roles[role]
        safe = max(bounds.low[0], min(pool.replicas, pool.high))
        there, ready = members.of_role(state, role), bounds.now
        again_us = state.decided.lowered_us.get(role, 0) + state.limits.slot_us
        if ready > safe and now_us >= again_us and not bounds.keep[0]:
            safe = max(safe, ready - bounds.step_down)
        elif ready > safe:
            safe = ready
        safe = max(0, min(safe, bounds.high[0]))
        found[role] = Target(safe, max(safe, min(len(there), pool.high)))
    return found
