"""Which instances wake because requests wait.

Requests wait and no decode instance is awake: the decode instance that is back soonest is woken,
and the prefill instance nearest to it, both at once. While requests still wait, the others follow
pair by pair, except those that a person put to sleep. An instance whose node refused (no room) is
left alone for WAKE_REFUSED_US, and the next best is woken instead.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.planning.idle_sleep import ROLES, awake, learn, serving
from argosy.autoscaler.core.planning.sleep_decisions import decide_wake
from argosy.autoscaler.core.state import MANUAL, RULE, AutoscalerState, Member
from argosy.domain.core import Effect

MORE_US = 1_000_000
"""While requests wait, another pair is woken this often: several reports of the queue, so that what
a pair which has just come up takes from it shows before the next is woken."""
WAKE_REFUSED_US = 5_000_000
"""Room on a node comes and goes with the instances there; with requests waiting it is asked for
again soon, and not with every report."""
WAKE_US = 30_000_000
"""How long a wake may take, where that is not known."""
LOST_US = 5_000_000
"""Requests that have waited as long, though an instance is said to be up, cannot reach it: a router
learns within a second that an instance is up."""
AGAIN_US = 5_000_000
"""An instance that was told to wake and has not moved is told again after this. Unlike the plan
(members.AGAIN_US), requests wait meanwhile."""


def demand_seen(state: AutoscalerState, event: events.DemandSeen) -> list[Effect]:
    """Requests wait, and a router knows of no instance that is awake."""
    state.busy_us = event.now_us
    decode = [m for m in serving(state, "decode").values() if not m.told_to_sleep]
    waking = any(m.state == "waking" for m in decode)
    active = any(m.state == "active" for m in decode)
    if waking or (active and event.oldest_wait_us < LOST_US):
        return []  # An instance is on its way, or the news of it is.
    for member in serving(state).values():
        # A person who put all to sleep did not ask that nobody is served.
        member.decided_by = RULE if member.decided_by == MANUAL else member.decided_by
    why = f"requests wait at {event.router}: {event.queued_requests}"
    return wake_pair(state, why, event.now_us)


def wake_more(state: AutoscalerState, now_us: int) -> list[Effect]:
    """One more pair, if requests wait although those that were woken have come."""
    if not awake(state):
        return []  # DemandSeen says so, and wakes the first.
    coming = [
        m
        for m in serving(state, "decode").values()
        if not m.told_to_sleep and m.state in ("waking", "silent", "draining")
    ]
    known_us = max((m.woke_took_us for m in coming), default=0)
    soon_us = (2 * known_us or WAKE_US) if coming else 0
    if now_us - state.sleep.woken_us < max(MORE_US, soon_us):
        return []
    return wake_pair(state, "requests wait", now_us)


def wake_pair(state: AutoscalerState, why: str, now_us: int) -> list[Effect]:
    """Wake the best decode instance, and the best prefill instance for it."""
    if now_us - state.sleep.woken_us < MORE_US // 2:
        return []
    chosen: list[str] = []
    near = ""
    for role in reversed(ROLES):
        there = serving(state, role)
        ranked = sorted(
            (wake_cost(state, m, near), name) for name, m in there.items() if can_wake(m, now_us)
        )
        if role == "decode" and not ranked and not there.keys() & awake(state).keys():
            return []  # Prefill alone answers nobody.
        if ranked:
            chosen.append(ranked[0][1])
            near = state.members[chosen[0]].node
    if chosen:
        learn(state, now_us)
        state.sleep.woken_us = now_us
    return [decide_wake(state, name, now_us, reason=why, decided_by=RULE) for name in chosen]


def wake_cost(state: AutoscalerState, member: Member, near: str) -> tuple[bool, bool, bool, int]:
    """Orders candidates: first one still on its way to sleep, then those that fit, near ones, and
    quick ones.
    """
    lacking_bytes = member.memory_bytes - member.resident_bytes
    fits = lacking_bytes <= state.free_bytes.get(member.node, 0)
    return (
        member.state == "silent",
        not fits,
        bool(near) and member.node != near,
        member.woke_took_us,
    )


def can_wake(member: Member, now_us: int) -> bool:
    """Whether a decision to wake would do something that is not being done."""
    if now_us - member.refused_us <= WAKE_REFUSED_US:
        return False
    if member.told_to_sleep:
        return member.decided_by != MANUAL and member.state != "waking"
    if now_us - member.decision_sequence < AGAIN_US:
        return False  # It was told to, and is on its way or waits for room.
    return member.state in ("silent", "draining")
