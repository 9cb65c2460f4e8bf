"""What a plan must keep to, slot by slot: the file's bounds, plans, people, and what can be had.

Where bounds contradict each other, the most there may be comes before the least.
"""

import msgspec

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning import feedback
from argosy.autoscaler.core.state import AutoscalerState, Baseline, Member
from argosy.domain.plan_window import PlanWindow

WAKE_COST_S = 5.0
"""Of any change beside the instance's own time, in instance-seconds: requests that are cut, caches
that are lost. An estimate; it also keeps a plan from flapping between counts that cost the same."""
STEP_SHARE = 10
"""At most one in ten is taken away at once: the rest can carry its load for a slot, until it shows
whether that was too many."""


class RoleBounds(msgspec.Struct, frozen=True):
    """One role's; lists by slot."""

    now: int
    """Ready now; at_work: and on their way."""
    at_work: int
    low: list[int]
    high: list[int]
    reach: list[int]
    up: list[float]
    down: float
    step_down: int
    keep: list[bool]


class FleetBounds(msgspec.Struct, frozen=True):
    """All of them."""

    roles: dict[str, RoleBounds]
    together_low: list[int]
    together_high: list[int]
    ratio_min: float
    ratio_max: float
    notes: list[str]
    """What is not of the fleet file, one line each, for people."""


def fleet_bounds(state: AutoscalerState, now_us: int) -> FleetBounds:
    """For a plan that begins now."""
    assert state.scaling is not None
    slots, slot_us = state.limits.plan_slots, state.limits.slot_us
    starts = [now_us + slot * slot_us for slot in range(slots)]
    spans = [w for w in state.windows if w.until_us > now_us and w.from_us < starts[-1] + slot_us]
    notes = [f"plan {window.plan}" for window in spans if window.from_us <= now_us]
    budget = state.scaling.budget
    low, high = [0] * slots, [budget] * slots
    for window in spans:
        if window.role:
            continue
        for slot in covered(window, starts, slot_us):
            if window.kind == "at_least":
                low[slot] = max(low[slot], min(window.count, budget))
            elif window.kind == "at_most":
                high[slot] = min(high[slot], window.count)
    roles = {
        role: role_bounds(state, role, pool, spans, starts, notes)
        for role, pool in state.scaling.pools.items()
    }
    scaling = state.scaling
    return FleetBounds(roles, low, high, scaling.ratio_min, scaling.ratio_max, notes)


def covered(window: PlanWindow, starts: list[int], slot_us: int) -> list[int]:
    """The slots that a window touches."""
    return [
        slot
        for slot, start_us in enumerate(starts)
        if window.from_us < start_us + slot_us and start_us < window.until_us
    ]


def role_bounds(
    state: AutoscalerState,
    role: str,
    pool: events.PoolBounds,
    spans: list[PlanWindow],
    starts: list[int],
    notes: list[str],
) -> RoleBounds:
    """One role's bounds."""
    assert state.scaling is not None
    now_us, slot_us = starts[0], state.limits.slot_us
    there = members.of_role(state, role)
    floor = pool.low if idle(state, now_us) else max(1, pool.low)
    low, high = [min(floor, pool.high)] * len(starts), [pool.high] * len(starts)
    keep = [False] * len(starts)
    _windows([w for w in spans if w.role in ("", role)], starts, slot_us, low, high, keep)
    _dwell(state, role, starts, keep, notes)
    if feedback.trouble(state, role):
        keep[0] = True
    _people(there, role, starts, low, high, notes)
    base = state.baselines.get(role, Baseline())
    drained = drained_racks(state, now_us)
    good = [m for m in there.values() if m.rack not in drained]
    count = sum(members.ready(m) for m in good)
    at_work = count + sum(members.coming(m) for m in good)
    return RoleBounds(
        min(count, pool.high),
        at_work,
        low,
        high,
        reach(state, there, base, pool, starts),
        level_costs(there, base, pool),
        WAKE_COST_S,
        max(1, count // STEP_SHARE),
        keep,
    )


def _windows(
    spans: list[PlanWindow],
    starts: list[int],
    slot_us: int,
    low: list[int],
    high: list[int],
    keep: list[bool],
) -> None:
    """What operational plans say of one role. Those for both roles together bind the fleet."""
    for window in spans:
        for slot in covered(window, starts, slot_us):
            if window.kind == "hold":
                keep[slot] = True
            elif window.role and window.kind == "at_least":
                low[slot] = max(low[slot], window.count)
            elif window.role and window.kind == "at_most":
                high[slot] = min(high[slot], window.count)


def idle(state: AutoscalerState, now_us: int) -> bool:
    """Whether nothing was asked for so long that all may sleep."""
    assert state.scaling is not None
    after_us = state.scaling.idle_sleep_us
    return bool(after_us) and now_us - state.busy_us >= after_us


def drained_racks(state: AutoscalerState, now_us: int) -> set[str]:
    """Racks in which no instance is to be at work now."""
    return {w.rack for w in state.windows if w.kind == "drain" and w.from_us <= now_us < w.until_us}


def _dwell(
    state: AutoscalerState, role: str, starts: list[int], keep: list[bool], notes: list[str]
) -> None:
    """After an addition none is taken away for a while; after a removal the next waits a slot."""
    assert state.scaling is not None
    # Of what has only just begun to be heard, nothing is known to be too much.
    until_us = state.since_us + 2 * state.limits.slot_us
    if role in state.decided.raised_us:
        # Counted from when what was added is there.
        wake_us = state.baselines.get(role, Baseline()).wake_us
        raised_us = state.decided.raised_us[role] + wake_us
        until_us = max(until_us, raised_us + state.scaling.dwell_us)
    gap_us = min(state.limits.slot_us, state.scaling.dwell_us)
    again_us = state.decided.lowered_us.get(role, -gap_us) + gap_us
    for slot, start_us in enumerate(starts):
        keep[slot] = keep[slot] or start_us <= until_us or (slot == 0 and start_us < again_us)
    if starts[0] < until_us:
        left_s = (until_us - starts[0]) // 1_000_000
        notes.append(f"{role}: none taken away for {left_s} s more")


def _people(
    there: dict[str, Member],
    role: str,
    starts: list[int],
    low: list[int],
    high: list[int],
    notes: list[str],
) -> None:
    """What a person put to sleep stays asleep, and what a person woke stays awake, for a while."""
    manual = {n: m for n, m in there.items() if members.is_manual(m, starts[0])}
    notes += [f"{n}: {'asleep' if m.told_to_sleep else 'awake'} by hand" for n, m in manual.items()]
    for slot, start_us in enumerate(starts):
        asleep = [m.told_to_sleep for m in manual.values() if start_us < m.manual_until_us]
        high[slot] = min(high[slot], len(there) - sum(asleep)) if any(asleep) else high[slot]
        low[slot] = max(low[slot], len(asleep) - sum(asleep))


def reach(
    state: AutoscalerState,
    there: dict[str, Member],
    base: Baseline,
    pool: events.PoolBounds,
    starts: list[int],
) -> list[int]:
    """Most that can be ready in each slot, by when each of them would be."""
    now_us, slot_us = starts[0], state.limits.slot_us
    drained = drained_racks(state, now_us)
    delays = []
    for member in there.values():
        if member.rack in drained:
            continue
        if members.ready(member):
            delays.append(0)
        elif members.coming(member):
            takes_us = base.start_us if member.state == "loading" else base.wake_us
            began_us = member.decision_sequence if members.called(member) else member.since_us
            delays.append(max(0, began_us + takes_us - now_us))
        elif members.asleep(member, now_us) and not members.is_manual(member, now_us):
            delays.append(base.wake_us)
    delays += [base.start_us] * max(0, pool.high - len(there))
    slots = sorted((delay + slot_us // 2) // slot_us for delay in delays)
    found, count = [], 0
    for slot in range(len(starts)):
        while count < len(slots) and slots[count] <= slot:
            count += 1
        found.append(count)
    return found


def level_costs(there: dict[str, Member], base: Baseline, pool: events.PoolBounds) -> list[float]:
    """Instance-seconds for the instance that makes it each count: none, a wake, or a start."""
    at_work = sum(members.ready(m) or members.coming(m) for m in there.values())
    present = sum(m.state not in ("pending", "failed", "stopped") for m in there.values())
    ready = sum(members.ready(m) for m in there.values())
    wake_s, start_s = base.wake_us / 1e6 + WAKE_COST_S, base.start_us / 1e6 + WAKE_COST_S
    return [
        0.0 if not count or ready < count <= at_work else wake_s if count <= present else start_s
        for count in range(pool.high + 1)
    ]
