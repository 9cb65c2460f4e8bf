"""Decisions that one instance sleeps or wakes: made, read back from the log, and refused.

Each carries a decision sequence. Of two decisions on an instance the one with the greater sequence
holds, in whatever order they arrive. It is the time of the decision in microseconds, or one more
than the last where that is not greater.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.effects import DecideSleep, DecideWake
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.state import MANUAL, RULE, AutoscalerState, Member
from argosy.domain.core import Effect


def decide_sleep(
    state: AutoscalerState,
    name: str,
    now_us: int,
    *,
    reason: str,
    decided_by: str,
    drain_us: int,
    level: str = "",
    decision: str = "",
    generation: int = 0,
) -> DecideSleep:
    """Let one instance sleep. level: dram or disk; empty: as the fleet file says."""
    member = state.members[name]
    _number(state, member, now_us, decided_by)
    member.told_to_sleep = True
    return DecideSleep(
        instance=name,
        node=member.node,
        decision_sequence=member.decision_sequence,
        level=level or (state.scaling.sleep_level if state.scaling is not None else "dram"),
        drain_us=drain_us,
        reason=reason,
        decided_by=decided_by,
        decision=decision,
        generation=generation,
    )


def decide_wake(
    state: AutoscalerState,
    name: str,
    now_us: int,
    *,
    reason: str,
    decided_by: str,
    decision: str = "",
    generation: int = 0,
) -> DecideWake:
    """Let one instance wake."""
    member = state.members[name]
    _number(state, member, now_us, decided_by)
    member.told_to_sleep = False
    return DecideWake(
        instance=name,
        node=member.node,
        decision_sequence=member.decision_sequence,
        reason=reason,
        decided_by=decided_by,
        decision=decision,
        generation=generation,
    )


def _number(state: AutoscalerState, member: Member, now_us: int, decided_by: str) -> None:
    member.decision_sequence = max(now_us, member.decision_sequence + 1)
    member.decided_by, member.refused = decided_by, ""
    _hold(state, member, now_us)


def _hold(state: AutoscalerState, member: Member, now_us: int) -> None:
    """Let the plan respect what a person decided. A decision of the future is none of longer."""
    if member.decided_by == MANUAL:
        made_us = min(member.decision_sequence, now_us)
        member.manual_until_us = made_us + state.limits.manual_hold_us


def recalled(state: AutoscalerState, event: events.SleepDecisionRecalled) -> None:
    """The control log holds a decision: made by an autoscaler before this one, or by this one."""
    member = state.members.get(event.instance)
    if member is None or event.decision_sequence <= member.decision_sequence:
        return
    member.decision_sequence, member.decided_by = event.decision_sequence, event.decided_by
    # What an earlier process was told does not bind this one.
    started_us = member.lifecycle.newest.started_us
    member.told_to_sleep = not event.wake and event.decision_sequence >= started_us
    _hold(state, member, event.now_us)
    if state.scaling is None:
        members.told_before(member)


def refused(state: AutoscalerState, event: events.SleepDecisionRefused) -> list[Effect]:
    """Its node refused. Instances that the idle rule put to sleep with it wake again: prefill and
    decode serve only together.
    """
    member = state.members.get(event.instance)
    if member is None or event.decision_sequence < member.decision_sequence:
        return []
    member.decision_sequence = event.decision_sequence
    member.refused_us, member.refused = event.now_us, event.reason
    member.told_to_sleep = event.wake
    if event.wake:
        # Another instance may be woken for the same demand at once.
        state.sleep.woken_us = 0
        return []
    if member.decided_by not in (RULE, MANUAL):
        return []  # The plan decides on each instance by itself.
    state.sleep.sleep_refused_us = event.now_us
    partners = [
        name
        for name, m in state.members.items()
        if m.wanted and m.told_to_sleep and m.decided_by == RULE
    ]
    why = f"{event.instance} cannot sleep"
    return [
        decide_wake(state, name, event.now_us, reason=why, decided_by=RULE) for name in partners
    ]
