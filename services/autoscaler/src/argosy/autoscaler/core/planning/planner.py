"""What there is to be of each role now: the third of the four calls of a decision.

From the bounds that hold and the costs of each count follows the cheapest path (dp); of the path
follows what has to be begun now (targets). While routers do not report, stale_signals says it.
"""

import msgspec

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe.observation import FRESH, FleetObservation
from argosy.autoscaler.core.planning import expected_demand, stale_signals
from argosy.autoscaler.core.planning.bounds import FleetBounds, fleet_bounds
from argosy.autoscaler.core.planning.costs import CostContext, RoleCosts
from argosy.autoscaler.core.planning.dp import PlanPath
from argosy.autoscaler.core.planning.targets import Target, cheapest_path, targets, within_budget
from argosy.autoscaler.core.state import AutoscalerState, Baseline, SloCorrection


class FleetPlan(msgspec.Struct, frozen=True):
    """What there is to be, and what it was chosen by."""

    targets: dict[str, Target]
    bounds: FleetBounds
    path: PlanPath | None
    """None: not chosen by costs, but because routers do not report."""


class Planner:
    """Plans, and remembers the cost tables between plans: they are results, no knowledge."""

    def __init__(self) -> None:
        self._costs: dict[str, RoleCosts] = {}

    def plan(
        self,
        state: AutoscalerState,
        observed: FleetObservation,
        expected: expected_demand.ExpectedDemand,
    ) -> FleetPlan | None:
        """What there is to be; None: nothing is to change."""
        bounds = fleet_bounds(state, observed.now_us)
        if observed.signals != FRESH:
            wanted = stale_signals.without_news(state, observed, bounds)
            if wanted is None:
                return None
            return FleetPlan(within_budget(wanted, bounds), bounds, None)
        if any(known_baseline(state, role) is None for role in events.ROLES):
            return None  # No instance has announced yet what it can do.
        costs = {role: self._costs_of(state, role, expected) for role in events.ROLES}
        path = cheapest_path(bounds, costs)
        return FleetPlan(targets(state, path, bounds, observed.now_us), bounds, path)

    def _costs_of(
        self, state: AutoscalerState, role: str, expected: expected_demand.ExpectedDemand
    ) -> list[list[float]]:
        """By slot and count; computed anew only when what they follow from has changed."""
        scaling = state.scaling
        assert scaling is not None
        high = scaling.pools[role].high
        if not high:
            return [[0.0]] * len(expected.rates)
        base = known_baseline(state, role)
        assert base is not None
        assert base.timing is not None
        alone = role == "decode" and not scaling.pools["prefill"].high
        context = CostContext(
            "both" if alone else role,
            expected.mix,
            base.timing,
            base.machine,
            scaling.slo,
            state.limits,
            high,
        )
        if role not in self._costs or self._costs[role].context != context:
            self._costs[role] = RoleCosts(context)
        factor = state.corrections.get(role, SloCorrection()).factor
        rates = expected_demand.in_first(expected.rates, expected.extra[role], state.limits.slot_us)
        return self._costs[role].of_slots([factor * rate for rate in rates], expected.sigmas)


def known_baseline(state: AutoscalerState, role: str) -> Baseline | None:
    """What an instance of the role can do; before there was one, what the other role's can."""
    for name in (role, *events.ROLES):
        base = state.baselines.get(name)
        if base is not None and base.timing is not None:
            return base
    return None
