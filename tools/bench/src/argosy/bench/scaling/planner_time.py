"""What one plan of the autoscaler takes: 64 + 64 instances, 4 hours of slots of a minute.

Costs are worked out by the model and the cheapest path is found, as for every decision. Demand
swings within the 4 hours between a quarter and nearly all of the instances. Cold: nothing is
remembered, as for the first plan after requests have changed. Warm: the plan a slot later. Bound:
a budget and a ratio that roles planned apart would break, so that both are planned together.
"""

import gc
import math
import time
from collections.abc import Callable
from typing import Any

from argosy.autoscaler.core.capacity import fleet_model, model, queueing, workload_mix
from argosy.autoscaler.core.events import ROLES
from argosy.autoscaler.core.planning.bounds import FleetBounds, RoleBounds
from argosy.autoscaler.core.planning.costs import CostContext, RoleCosts, excess
from argosy.autoscaler.core.planning.dp import PlanPath
from argosy.autoscaler.core.planning.targets import cheapest_path
from argosy.autoscaler.core.state import ScalerLimits
from argosy.bench.scaling.capacity_model import machine_of
from argosy.domain.demand import Demand, Slo
from argosy.engine.profile_files import load_profile

INSTANCES = 64
"""Of each role."""
MIX = Demand(0, 4000, 4000, 600, 600)
PEAK = 0.95
"""Of the instances of whichever role needs more, at the highest rate."""
SIGMA = 0.2
"""Of the forecast, so that costs are means over its quantiles."""
STEP = 1.02
START_S, WAKE_S, CHANGE_S = 100.0, 10.0, 5.0
TIGHT = 0.85
"""Of what the roles would use at most, and of their largest ratio, if planned apart."""
ASKED_S = 1.0

Costs = dict[str, RoleCosts]


def measure(runs: int) -> dict[str, Any]:
    """Seconds that the slowest of this many plans of each kind takes."""
    rates = demand_rates()
    free = bounds(2 * INSTANCES, 0)
    path = solve(new_costs(), rates, 0, free)
    both = [sum(counts) for counts in zip(path.prefill, path.decode, strict=True)]
    ratio = max(p / d for p, d in zip(path.prefill, path.decode, strict=True))
    tight = bounds(round(TIGHT * max(both)), TIGHT * ratio)
    kinds = {"free": free, "bound": tight}
    found = {
        name: {"cold": cold(rates, kept, runs), "warm": warm(rates, kept, runs)}
        for name, kept in kinds.items()
    }
    walls = [took["wall_s"] for kind in found.values() for took in kind.values()]
    return {
        "instances": dict.fromkeys(ROLES, INSTANCES),
        "slots": ScalerLimits().plan_slots,
        "used": {"least": min(both), "most": max(both)},
        "budget": tight.together_high[0],
        "ratio_max": round(tight.ratio_max, 3),
        **found,
        "asked_s": ASKED_S,
        "ok": max(walls) <= ASKED_S,
    }


def demand_rates() -> list[float]:
    """By slot, for two plans' worth: two swings a plan, and smaller quicker ones."""
    contexts = [costs.context for costs in new_costs().values()]
    most = 1.0
    while max(excess(context, most * STEP)[1] for context in contexts) <= PEAK * INSTANCES:
        most *= STEP
    slots = ScalerLimits().plan_slots
    turns = (2 * math.pi * slot / slots for slot in range(2 * slots))
    return [most * (0.6 + 0.3 * math.sin(2 * at) + 0.1 * math.sin(17 * at)) for at in turns]


def new_costs() -> Costs:
    """Tables of both roles, empty."""
    profile = load_profile(None)
    machine, limits = machine_of(profile), ScalerLimits()
    return {
        role: RoleCosts(CostContext(role, MIX, profile, machine, Slo(), limits, INSTANCES))
        for role in ROLES
    }


def bounds(budget: int, ratio_max: float) -> FleetBounds:
    """From half of the instances, all of which can be had within two slots."""
    slots, now = ScalerLimits().plan_slots, INSTANCES // 2
    role = RoleBounds(
        now=now,
        at_work=now,
        low=[1] * slots,
        high=[INSTANCES] * slots,
        reach=[now, now, *[INSTANCES] * (slots - 2)],
        up=[WAKE_S + CHANGE_S] * (now + 1) + [START_S + CHANGE_S] * (INSTANCES - now),
        down=CHANGE_S,
        step_down=now // 10,
        keep=[False] * slots,
    )
    return FleetBounds(dict.fromkeys(ROLES, role), [0] * slots, [budget] * slots, 0, ratio_max, [])


def solve(costs: Costs, rates: list[float], first: int, kept: FleetBounds) -> PlanPath:
    """One plan, as the autoscaler's core makes it, from a slot on."""
    ahead = rates[first : first + ScalerLimits().plan_slots]
    sigmas = [SIGMA] * len(ahead)
    return cheapest_path(kept, {role: costs[role].of_slots(ahead, sigmas) for role in ROLES})


def cold(rates: list[float], kept: FleetBounds, runs: int) -> dict[str, float]:
    """With nothing remembered."""

    def prepared(number: int) -> Callable[[], PlanPath]:
        forget()
        costs = new_costs()
        return lambda: solve(costs, rates, 0, kept)

    return slowest(prepared, runs)


def warm(rates: list[float], kept: FleetBounds, runs: int) -> dict[str, float]:
    """A slot after the one before, each."""
    costs = new_costs()
    solve(costs, rates, 0, kept)
    return slowest(lambda number: lambda: solve(costs, rates, number + 1, kept), runs)


def slowest(prepared: Callable[[int], Callable[[], PlanPath]], runs: int) -> dict[str, float]:
    """The most that a plan took."""
    walls, cpus = [], []
    for number in range(runs):
        work = prepared(number)
        gc.collect()
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        work()
        walls.append(time.perf_counter() - wall_s)
        cpus.append(time.thread_time() - cpu_s)
    return {"wall_s": round(max(walls), 4), "cpu_s": round(max(cpus), 4)}


def forget() -> None:
    """Empty what the model has remembered in this process."""
    for module in (fleet_model, model, queueing, workload_mix):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
