"""From a plan to the decision that is published: the last of the four calls of a decision."""

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.observe.observation import FleetObservation
from argosy.autoscaler.core.planning import explain, pool_actions
from argosy.autoscaler.core.planning.expected_demand import ExpectedDemand
from argosy.autoscaler.core.planning.planner import FleetPlan
from argosy.autoscaler.core.planning.sleep_decisions import decide_sleep, decide_wake
from argosy.autoscaler.core.state import PLAN, AutoscalerState
from argosy.domain.core import Effect

DRAIN_US = 600_000_000
"""How long requests may go on when the plan puts an instance to sleep: as long as a router lets a
request take, so that scaling down aborts nothing. A wake ends a drain at any moment."""


def act(
    state: AutoscalerState,
    observed: FleetObservation,
    expected: ExpectedDemand,
    plan: FleetPlan | None,
) -> list[Effect]:
    """The decision, and what each instance is to do for it; nothing if all is so already."""
    if plan is None:
        return []
    assert state.scaling is not None
    now_us, acts = observed.now_us, state.scaling.mode == "act"
    room = pool_actions.room_left(state, plan.bounds.together_high[0])
    chosen = pool_actions.pools(state, plan.targets, now_us, room)
    if not is_news(state, chosen, now_us, acts):
        return []
    state.decided.generation += 1
    state.decided.at_us = now_us
    decision = explain.decision(state, chosen, plan, expected, observed)
    note(state, chosen, now_us, acts)
    return [decision, *(tell(state, chosen, decision, now_us) if acts else [])]


def is_news(
    state: AutoscalerState, chosen: list[effects.PoolDecision], now_us: int, acts: bool
) -> bool:
    """Whether it has to be published: it differs from the decision that holds.

    A decision that is not carried out yet is published again once a slot, not at every tick.
    """
    done = not any(pool_actions.changes(pool) for pool in chosen)
    waits = now_us - state.decided.at_us < state.limits.slot_us
    if all(decided_already(state, pool) for pool in chosen) and (done or waits):
        return False
    return acts or not (done or advised(state, chosen))


def tell(
    state: AutoscalerState,
    chosen: list[effects.PoolDecision],
    decision: effects.DecideScale,
    now_us: int,
) -> list[Effect]:
    """Decide for each instance that is to wake or to sleep."""
    found = list[Effect]()
    for pool in chosen:
        for name in pool.wake:
            found.append(
                decide_wake(
                    state,
                    name,
                    now_us,
                    reason=decision.reason,
                    decided_by=PLAN,
                    decision=decision.id,
                    generation=decision.generation,
                )
            )
        for name in pool.sleep:
            found.append(
                decide_sleep(
                    state,
                    name,
                    now_us,
                    reason=decision.reason,
                    decided_by=PLAN,
                    drain_us=DRAIN_US,
                    decision=decision.id,
                    generation=decision.generation,
                )
            )
    return found


def note(
    state: AutoscalerState, chosen: list[effects.PoolDecision], now_us: int, acts: bool
) -> None:
    """Remember what was decided, as if it had been read from the log; acts: it will be done."""
    decided = state.decided
    for pool in chosen:
        if pool.wake or pool.exist > pool.exist_before:
            decided.raised_us[pool.role] = now_us
        elif pool.sleep or pool.stop:
            decided.lowered_us[pool.role] = now_us
        decided.awake[pool.role], decided.exist[pool.role] = pool.awake, pool.exist
        for name in pool.stop if acts else ():
            state.members[name].wanted = False


def decided_already(state: AutoscalerState, pool: effects.PoolDecision) -> bool:
    """Whether the decision that holds says so already."""
    exist = state.decided.exist.get(pool.role, pool.exist_before)
    return pool.exist == exist and not (pool.wake or pool.sleep or pool.stop)


def advised(state: AutoscalerState, chosen: list[effects.PoolDecision]) -> bool:
    """Whether just that was advised last."""
    awake, exist = state.decided.awake, state.decided.exist
    return all((awake.get(p.role), exist.get(p.role)) == (p.awake, p.exist) for p in chosen)
