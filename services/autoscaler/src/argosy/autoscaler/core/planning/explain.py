"""A decision in words and figures: what was expected, what else could have been done, why not."""

import msgspec

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.capacity import model
from argosy.autoscaler.core.forecast.forecaster import Forecaster
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.observe.observation import FRESH, FleetObservation
from argosy.autoscaler.core.planning import expected_demand, pool_actions
from argosy.autoscaler.core.planning.dp import PlanPath
from argosy.autoscaler.core.planning.planner import FleetPlan
from argosy.autoscaler.core.state import AutoscalerState
from argosy.domain.demand import Demand

REJECTED_MAX = 3
NOBODY = model.CapacityScore(0, 0, 0, 0, 0, 0, 0, 0)
"""The score of a fleet without decode: no request is answered."""


def decision(
    state: AutoscalerState,
    chosen: list[effects.PoolDecision],
    plan: FleetPlan,
    seen: expected_demand.ExpectedDemand,
    observed: FleetObservation,
) -> effects.DecideScale:
    """What is published of a decision. Its id is its time and generation: no two are alike."""
    assert state.scaling is not None
    generation = state.decided.generation
    soon = horizon(state)
    upper = max(seen.uppers[:soon])
    options = alternatives(state, plan.path, seen.mix, upper) if plan.path is not None else []
    weights = Forecaster(state.forecast).weights(soon)
    expected = effects.ExpectedRates(
        seen.rate_now,
        max(seen.rates[:soon]),
        upper,
        expected_demand.QUANTILE,
        soon * state.limits.slot_us // 1_000_000,
        seen.mix.prompt_tokens,
        seen.mix.output_tokens,
        seen.mix.hit_share,
        weights,
    )
    nothing = effects.Alternative("by the guardrails", 0, 0, 0, 0.0, 0.0, 0.0, 0.0)
    return effects.DecideScale(
        id=f"{observed.now_us // 1000:x}-{generation}",
        generation=generation,
        pools=chosen,
        reason=reason(state, chosen, seen, expected, observed),
        advisory=state.scaling.mode != "act",
        expected=expected,
        chosen=options[0] if options else nothing,
        rejected=options[1:],
        constraints=plan.bounds.notes,
        trace=state.trace,
    )


def horizon(state: AutoscalerState) -> int:
    """Slots in which what is begun now takes effect."""
    start_us = max((base.start_us for base in state.baselines.values()), default=0)
    return min(state.limits.plan_slots, 2 + start_us // state.limits.slot_us)


def reason(
    state: AutoscalerState,
    chosen: list[effects.PoolDecision],
    seen: expected_demand.ExpectedDemand,
    expected: effects.ExpectedRates,
    observed: FleetObservation,
) -> str:
    """In one line."""
    parts = []
    for pool in list(filter(pool_actions.changes, chosen)) or chosen:
        what = f"{pool.role} {pool.awake_before} to {pool.awake} awake"
        more = f", {pool.exist_before} to {pool.exist} in all" * (pool.exist != pool.exist_before)
        parts.append(what + more)
    if observed.signals != FRESH:
        silent_s = (observed.now_us - state.heard_us) // 1_000_000
        return f"{'; '.join(parts)}: no router was heard for {silent_s} s, back to what is safe"
    why = (
        f"{seen.rate_now:.2f} requests/s now, {expected.rate_mean:.2f} expected within "
        f"{expected.ahead_s} s (at most {expected.rate_upper:.2f}, 9 times in 10)"
    )
    return f"{'; '.join(parts)}: {'a burst, ' if seen.burst else ''}{why}"


def alternatives(
    state: AutoscalerState, path: PlanPath, mix: Demand, upper: float
) -> list[effects.Alternative]:
    """The chosen first step and those beside it, with what they would have led to."""
    assert state.scaling is not None
    found: list[effects.Alternative] = []
    decode = state.baselines.get("decode") or state.baselines["prefill"]
    assert decode.timing is not None
    there = sum(len(members.of_role(state, role)) for role in ("prefill", "decode"))
    asked = msgspec.structs.replace(mix, rate=upper)
    for p, d, cost in path.first[: REJECTED_MAX + 1]:
        scored = NOBODY
        if d and upper > 0:
            scored = model.score(asked, p, d, decode.timing, decode.machine, state.scaling.slo)
        rejected = ""
        if found:
            rejected = f"{cost - found[0].cost:,.0f} instance-seconds more than what was chosen"
        found.append(
            effects.Alternative(
                f"{p} prefill, {d} decode",
                p,
                d,
                max(0, there - p - d),
                cost,
                scored.ttft_p90_ms,
                scored.tpot_p90_ms,
                scored.attained,
                rejected,
            )
        )
    return found
