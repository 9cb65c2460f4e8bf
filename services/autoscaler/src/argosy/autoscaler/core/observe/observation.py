"""What is known of a fleet at one moment, read from what routers and instances reported.

`observe` is the first of the four calls of a decision (see core/autoscaler.py). It changes nothing.
"""

import msgspec

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe import measure, members
from argosy.autoscaler.core.state import AutoscalerState

FRESH, HELD, DECAYED = "fresh", "held", "decayed"
JUMP_US = 60_000_000
"""A tick that is later than this is taken for a jump of the clock (a suspended machine, a clock
set anew): an event loop is never blocked for a minute."""
JUMP_TICKS = 10
"""Or later than this many ticks, where ticks are long."""


class FleetObservation(msgspec.Struct, frozen=True):
    """What a decision is made from, beside the instances themselves."""

    now_us: int
    signals: str
    """How recent the routers' reports are: FRESH, HELD or DECAYED (see `signals`)."""
    rate_now: float
    """Requests per second over the last measure.RECENT_US."""
    waiting: dict[str, float]
    """Requests that wait for an instance of each role, at instances and at routers."""


def observe(state: AutoscalerState, now_us: int) -> FleetObservation:
    """What is known now."""
    rate_now = measure.recent_rate(state, now_us)
    return FleetObservation(now_us, signals(state, now_us), rate_now, waiting(state, now_us))


def signals(state: AutoscalerState, now_us: int) -> str:
    """How recent the routers' reports are.

    FRESH: all routers report. HELD: one of them, or all, stopped reporting up to `decay_us` ago.
    It may still have callers, so what it last reported is not taken for gone. DECAYED: no router
    has reported for longer than that.
    """
    stale_us, decay_us = state.limits.stale_us, state.limits.decay_us
    if now_us - state.heard_us > decay_us:
        return DECAYED
    silences = [now_us - router.heard_us for router in state.routers.values()]
    lost = any(stale_us < silent_us <= decay_us for silent_us in silences)
    return HELD if lost or now_us - state.heard_us > stale_us else FRESH


def waiting(state: AutoscalerState, now_us: int) -> dict[str, float]:
    """Requests that wait, by the role they wait for."""
    stale_us = state.limits.stale_us
    queued = sum(r.queued for r in state.routers.values() if now_us - r.heard_us <= stale_us)
    found = {}
    for role in events.ROLES:
        there = members.of_role(state, role).values()
        found[role] = float(sum(member.waiting for member in there))
    # Routers also queue requests for which decode instances have no room.
    found["decode" if members.no_room(state) else "prefill"] += queued
    return found


def ticked(state: AutoscalerState, now_us: int) -> None:
    """Note a tick. If the clock jumped, move all past times along: nobody was silent meanwhile."""
    gap_us = now_us - state.ticked_us - state.limits.tick_us
    if state.ticked_us and gap_us > max(JUMP_US, JUMP_TICKS * state.limits.tick_us):
        state.heard_us += gap_us
        state.busy_us += gap_us
        state.since_us += gap_us
        for router in state.routers.values():
            router.heard_us += gap_us
        for times in (state.decided.raised_us, state.decided.lowered_us):
            for role in times:
                times[role] += gap_us
    state.ticked_us = now_us
