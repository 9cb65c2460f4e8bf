"""What holds whatever is known: without news nothing is taken away, and nothing stays stuck.

Routers silent for `stale_us`: what is there is kept. For `decay_us`: the fleet goes to what its
file asks for, step by step, up or down. Zero traffic is news, and no gap.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning.bounds import FleetBounds
from argosy.autoscaler.core.planning.targets import Target
from argosy.autoscaler.core.state import AutoscalerState

JUMP_US = 60_000_000
FRESH, HELD, DECAYED = "fresh", "held", "decayed"


def signals(state: AutoscalerState, now_us: int) -> str:
    """What is known of traffic: fresh, held (nothing new), or decayed (nothing for long).

    A router that has fallen silent may still have callers: what it last told of is not gone.
    """
    stale_us, decay_us = state.limits.stale_us, state.limits.decay_us
    if now_us - state.heard_us > decay_us:
        return DECAYED
    silences = [now_us - router.heard_us for router in state.routers.values()]
    lost = any(stale_us < silent_us <= decay_us for silent_us in silences)
    return HELD if lost or now_us - state.heard_us > stale_us else FRESH


def ticked(state: AutoscalerState, now_us: int) -> None:
    """Take what a clock jumped by out of how long ago things were: nobody was silent meanwhile."""
    gap_us = now_us - state.ticked_us - state.limits.tick_us
    if state.ticked_us and gap_us > max(JUMP_US, 10 * state.limits.tick_us):
        state.heard_us += gap_us
        state.asked_us += gap_us
        state.since_us += gap_us
        for router in state.routers.values():
            router.heard_us += gap_us
        for times in (state.decided.raised_us, state.decided.lowered_us):
            for role in times:
                times[role] += gap_us
    state.ticked_us = now_us


def without_news(
    state: AutoscalerState, kept: FleetBounds, now_us: int
) -> dict[str, Target] | None:
    """What is to be while nothing is known; None: nothing is to change.

    Nothing was ever known (a start with no router up yet): nothing changes either.
    """
    assert state.scaling is not None
    if signals(state, now_us) == HELD or state.heard_us < 0:
        return None
    found = {}
    for role in events.ROLES:
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
