"""From a plan to what has to be done now: how many of each role awake, and how many there at all.

A plan says how many are ready in each slot. What takes time is begun that much earlier: an
instance that is to be ready in two slots, and takes two to start, is started now. Whatever the
plan says, the result keeps to the bounds: the most there may be of a role, and the budget.
"""

import msgspec

from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning.bounds import FleetBounds
from argosy.autoscaler.core.planning.dp import PlanPath, PlanProblem, RoleProblem, solve
from argosy.autoscaler.core.state import AutoscalerState, Baseline, Member


class Target(msgspec.Struct, frozen=True):
    """Of one role, how many at work, and how many at work or asleep."""

    awake: int
    exist: int


def cheapest_path(bounds: FleetBounds, costs: dict[str, list[list[float]]]) -> PlanPath:
    """The cheapest path within the bounds."""
    roles = {
        role: RoleProblem(
            b.now, costs[role], b.low, b.high, b.reach, b.up, b.down, b.step_down, b.keep
        )
        for role, b in bounds.roles.items()
    }
    return solve(
        PlanProblem(
            roles["prefill"],
            roles["decode"],
            bounds.together_low,
            bounds.together_high,
            bounds.ratio_min,
            bounds.ratio_max,
        )
    )


def targets(
    state: AutoscalerState, path: PlanPath, bounds: FleetBounds, now_us: int
) -> dict[str, Target]:
    """What the plan wants to be so now, within the bounds."""
    assert state.scaling is not None
    slot_us, found = state.limits.slot_us, {}
    for role, counts in (("prefill", path.prefill), ("decode", path.decode)):
        base = state.baselines.get(role, Baseline())
        pool = state.scaling.pools[role]
        there = members.of_role(state, role)
        kept = bounds.roles[role]
        awake = max(counts[: 1 + lag(base.wake_us, slot_us)])
        # Those on their way are not sent back either.
        awake = max(awake, kept.at_work if kept.keep[0] else kept.now - kept.step_down)
        most = max(0, min(kept.high[0], pool.high))
        awake = min(awake, most)
        later = max(counts[: 1 + lag(base.start_us, slot_us)])
        spare = min(state.scaling.silent, pool.high - awake)
        needed = max(pool.replicas, *counts, awake + spare)
        exist = max(later, awake + spare, len(there) - len(worn_out(there, base, needed, now_us)))
        if kept.keep[0]:
            exist = max(exist, len(there))
        if later > len(there):
            # What has to be started is started at work; the rest of it wakes when it is time.
            awake = max(awake, min(later, awake + later - len(there)))
        found[role] = Target(min(awake, most), min(max(exist, awake), pool.high))
    return within_budget(found, bounds)


def lag(takes_us: int, slot_us: int) -> int:
    """Slots by which something is to be begun earlier."""
    return (takes_us + slot_us // 2) // slot_us


SILENT_SHARE = 0.05
"""What an instance costs asleep, of what it costs awake: host memory, no device."""


def worn_out(there: dict[str, Member], base: Baseline, keep: int, now_us: int) -> list[str]:
    """Who has slept for so long that starting it again would have cost less; all but `keep` stay.

    An instance that is kept for as long as a change costs never costs more than twice what it would
    if it were known when it is needed again (ski rental, Karlin et al., 1988).
    """
    long_us = round(base.start_us / SILENT_SHARE)
    slept = sorted(
        (m.since_us, name)
        for name, m in there.items()
        if m.state == "silent"
        and not members.called(m)
        and now_us - m.since_us >= long_us
        and not members.is_manual(m, now_us)
    )
    return [name for _, name in slept[: max(0, len(there) - keep)]]


def within_budget(found: dict[str, Target], bounds: FleetBounds) -> dict[str, Target]:
    """Cut what is too much: first of what would be added, else of who has more above its least."""
    budget = bounds.together_high[0]

    def cut_first(role: str) -> tuple[bool, int, int]:
        kept = bounds.roles[role]
        awake = found[role].awake
        added = awake > kept.at_work
        return added, max(0, awake - (kept.at_work if added else kept.low[0])), awake

    while sum(target.awake for target in found.values()) > budget:
        role = max(sorted(found), key=cut_first)
        if not found[role].awake:
            break
        found[role] = Target(found[role].awake - 1, found[role].exist)
    return found
