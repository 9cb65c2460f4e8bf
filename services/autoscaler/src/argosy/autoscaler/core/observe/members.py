"""Who is there, where in its life, and who counts as what.

At work: active. Coming: on its way to work, and will count when it is there. Used: whoever holds
the memory and devices of an instance at work, which the budget is about. A pending or failed
instance is none of these but used: nobody waits for it.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.state import FAR_PAST_US, AutoscalerState, Baseline, Member

COMING = ("loading", "waking")
AGAIN_US = 60_000_000
"""An instance that was decided on and does not move is decided on again after this."""
REFUSED_US = 30_000_000
OVER = 1 << 62
"""Number of the last change of a process that has ended."""
MOST, SHORT_US = 10, 1_000_000
FULL = 0.97
"""Share of a decode instance's KV from which requests wait for room."""
TRUST = 0.3
"""What one more wake weighs in what waking is known to take."""


def step(
    state: AutoscalerState,
    event: events.MemberDecided | events.MemberChanged | events.SleepDecisionRecalled | events.SleepDecisionRefused,
) -> None:
    """Take in what happened to an instance."""
    match event:
        case events.MemberDecided():
            decided(state, event)
        case events.MemberChanged():
            changed(state, event)
        case events.SleepDecisionRecalled():
            rest_seen(state, event)
        case events.SleepDecisionRefused():
            refused(state, event)


def decided(state: AutoscalerState, event: events.MemberDecided) -> None:
    """The operator decided that it shall run, or not."""
    member = state.members.get(event.instance)
    if not event.run:
        if member is None and state.scaling is None and event.role in events.ROLES:
            # The log is read: what it says of that instance afterwards is of before.
            gone = Member(event.role, event.node, state="stopped", wanted=False)
            state.members[event.instance] = gone
        elif member is not None:
            member.wanted = False
            if member.state in ("pending", "stopped", "failed"):
                del state.members[event.instance]  # There is no process that could still end.
        return
    if event.role not in events.ROLES:
        return
    if member is None or not member.wanted:
        state.members[event.instance] = Member(event.role, event.node, since_us=event.now_us)
    elif member.node != event.node:
        member.node = event.node


def joined(state: AutoscalerState, event: events.MemberJoined) -> None:
    """It is up."""
    if event.role not in events.ROLES:
        return
    member = state.members.setdefault(event.instance, Member(event.role, since_us=event.now_us))
    if state.scaling is None and not member.wanted:
        return
    if member.epoch == event.epoch and member.change >= event.change:
        return
    base = state.baselines.setdefault(event.role, Baseline())
    # What the log told of since the last plan says nothing of how long it took.
    if member.state in ("pending", "loading") and 0 < member.since_us <= state.planned_us:
        base.start_us = blended(base.start_us, event.now_us - member.since_us)
    member.node, member.rack = event.node, event.rack
    member.epoch, member.change = event.epoch, event.change
    member.sums, member.heard_us = (0.0, 0.0, 0.0), FAR_PAST_US
    enter(member, "active", event.now_us)


def changed(state: AutoscalerState, event: events.MemberChanged) -> None:
    """It is somewhere else in its life. Old news of an older process changes nothing."""
    member = state.members.get(event.instance)
    if member is None:
        return
    if event.change:
        if event.epoch != member.epoch or event.change <= member.change:
            return
        member.change = event.change
    elif (
        event.epoch and member.epoch and (event.epoch != member.epoch) != (event.state == "loading")
    ):
        return
    if event.state == "active" and event.took_us > 0:
        member.woke_took_us = event.took_us
        base = state.baselines.setdefault(member.role, Baseline())
        base.wake_us = blended(base.wake_us, event.took_us)
    if event.state in ("loading", "failed", "stopped"):
        member.epoch, member.told_to_sleep = event.epoch, False
        member.change = 0 if event.state == "loading" else OVER
    enter(member, event.state, event.now_us)
    if state.scaling is None:
        _told_before(member)
    if event.state == "stopped" and not member.wanted:
        del state.members[event.instance]


def blended(known_us: int, took_us: int) -> int:
    """What it is known to take, after once more; one that took far longer counts as the bound."""
    took_us = min(took_us, MOST * max(known_us, SHORT_US))
    return known_us + round(TRUST * (took_us - known_us))


def _told_before(member: Member) -> None:
    """While the log is read: a sleeper whose last decision is to wake was told so asleep."""
    if member.state in ("silent", "draining") and member.decision_sequence and not member.told_to_sleep:
        member.since_us = min(member.since_us, member.decision_sequence - 1)


def enter(member: Member, now_in: str, now_us: int) -> None:
    """Be in a state."""
    if member.state != now_in:
        member.state, member.since_us = now_in, now_us
    if now_in not in ("active", "draining"):
        member.running = member.waiting = member.queued_tokens = 0


def rest_seen(state: AutoscalerState, event: events.SleepDecisionRecalled) -> None:
    """Somebody decided that it sleeps or wakes: this autoscaler, one before it, or a person."""
    member = state.members.get(event.instance)
    if member is None or event.decision_sequence <= member.decision_sequence:
        return
    member.decision_sequence, member.told_to_sleep = event.decision_sequence, not event.wake
    if event.manual:
        member.manual_until_us = min(event.decision_sequence, event.now_us) + state.limits.manual_hold_us
    if state.scaling is None:
        _told_before(member)


def refused(state: AutoscalerState, event: events.SleepDecisionRefused) -> None:
    """Its node does not let it."""
    member = state.members.get(event.instance)
    if member is not None and event.decision_sequence >= member.decision_sequence:
        member.decision_sequence, member.refused_us, member.told_to_sleep = event.decision_sequence, event.now_us, event.wake


def of_role(state: AutoscalerState, role: str) -> dict[str, Member]:
    """Those that shall exist, by name."""
    return {n: m for n, m in sorted(state.members.items()) if m.role == role and m.wanted}


def ready(member: Member) -> bool:
    """Whether it takes work now."""
    return member.state == "active" and not member.told_to_sleep


def called(member: Member) -> bool:
    """Whether it was told to wake since it began to sleep."""
    asleep_now = member.state in ("silent", "draining")
    return asleep_now and not member.told_to_sleep and member.decision_sequence > member.since_us


def coming(member: Member) -> bool:
    """Whether it will take work, by what was decided and what it does."""
    return called(member) or (member.state in COMING and not member.told_to_sleep)


def asleep(member: Member, now_us: int) -> bool:
    """Whether a wake would do something: it sleeps, or is to, and was not just told."""
    if now_us - member.refused_us < REFUSED_US:
        return False
    if member.state == "active":
        return member.told_to_sleep and now_us - member.decision_sequence >= AGAIN_US
    if member.state not in ("silent", "draining"):
        return False
    if called(member):
        return now_us - member.decision_sequence >= AGAIN_US
    return member.state == "silent" or member.told_to_sleep


def used(member: Member) -> bool:
    """Whether it holds what an instance at work holds, or may at any moment."""
    return member.state != "stopped" and (member.state != "silent" or called(member))


def no_room(state: AutoscalerState) -> bool:
    """Whether requests wait for room at decode instances."""
    decode = [m for m in of_role(state, "decode").values() if ready(m)]
    return any(m.kv_share > FULL or m.waiting > m.running / 10 for m in decode)


def is_manual(member: Member, now_us: int) -> bool:
    """Whether somebody decided on it not long ago."""
    return now_us < member.manual_until_us
