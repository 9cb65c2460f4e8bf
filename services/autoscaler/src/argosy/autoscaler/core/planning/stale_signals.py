"""What is planned while routers do not report: nothing is taken away, and nothing stays stuck.

For `stale_us` to `decay_us` without a report the fleet is kept as it is. After that it goes to the
replicas of its fleet file, one step a slot, up or down. A report of zero traffic is a report.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.observe.observation import HELD, FleetObservation
from argosy.autoscaler.core.planning.bounds import FleetBounds
from argosy.autoscaler.core.planning.targets import Target
from argosy.autoscaler.core.state import AutoscalerState


def without_news(
    state: AutoscalerState, observed: FleetObservation, kept: FleetBounds
) -> dict[str, Target] | None:
    """What there is to be while no router reports; None: nothing is to change.

    Where no router has reported since the start (none is up yet), nothing changes either.
    """
    assert state.scaling is not None
    if observed.signals == HELD or state.heard_us < 0:
        return None
    found = {}
    for role in events.ROLES:
        pool, bounds = state.scaling.pools[role], kept.roles[role]
        safe = max(bounds.low[0], min(pool.replicas, pool.high))
        there, ready = members.of_role(state, role), bounds.now
        again_us = state.decided.lowered_us.get(role, 0) + state.limits.slot_us
        if ready > safe and observed.now_us >= again_us and not bounds.keep[0]:
            safe = max(safe, ready - bounds.step_down)
        elif ready > safe:
            safe = ready
        safe = max(0, min(safe, bounds.high[0]))
        found[role] = Target(safe, max(safe, min(len(there), pool.high)))
    return found
