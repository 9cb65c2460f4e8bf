"""Who is there, where in its life, and who counts as what.

At work: active. Coming: on its way to work, and will count when it is there. Used: whoever holds
the memory and devices of an instance at work, which the budget is about. A pending or failed
instance is none of these but used: nobody waits for it.
"""

from argosy.autoscaler.core import events as on
from argosy.autoscaler.core.state import FAR_PAST_US, Baseline, Member, ScalerState

COMING = ("loading", "waking")
AGAIN_US = 5_000_000
"""An instance that was decided on and does not move is decided on again after this."""
REFUSED_US = 30_000_000
TRUST = 0.3
"""What one more wake weighs in what waking is known to take."""


def decided(state: ScalerState, event: on.MemberDecided) -> None:
    """The operator decided that it shall run, or not."""
    member = state.members.get(event.instance)
    if not event.run:
        if member is not None:
            member.wanted = False
        return
    if event.role not in on.ROLES:
        return
    if member is None or not member.wanted:
        state.members[event.instance] = Member(event.role, event.node, since_us=event.now_us)
    elif member.node != event.node:
        member.node = event.node


def joined(state: ScalerState, event: on.MemberJoined) -> None:
    """It is up."""
    if event.role not in on.ROLES:
        return
    member = state.members.setdefault(
        event.instance, Member(event.role, since_us=event.now_us)
    )  # fmt: skip
    if member.epoch == event.epoch and member.change >= event.change:
        return
    base = state.baselines.setdefault(event.role, Baseline())
    if member.state in ("pending", "loading") and member.since_us:
        took_us = event.now_us - member.since_us
        base.start_us += round(TRUST * (took_us - base.start_us))
    member.node, member.rack = event.node, event.rack
    member.epoch, member.change = event.epoch, event.change
    member.sums, member.heard_us = (0.0, 0.0, 0.0), FAR_PAST_US
    enter(member, "active", event.now_us)


def changed(state: ScalerState, event: on.MemberChanged) -> None:
    """It is somewhere else in its life. Old news of an older process changes nothing."""
    member = state.members.get(event.instance)
    if member is None:
        return
    if event.change:
        if event.epoch != member.epoch or event.change <= member.change:
            return
        member.change = event.change
    elif event.epoch and member.epoch and event.epoch != member.epoch and event.state != "loading":
        return
    if event.state == "active" and event.took_us:
        member.woke_took_us = event.took_us
        base = state.baselines.setdefault(member.role, Baseline())
        base.wake_us += round(TRUST * (event.took_us - base.wake_us))
    if event.state in ("loading", "failed", "stopped"):
        member.epoch, member.change, member.rests = "", 0, False
    enter(member, event.state, event.now_us)
    if event.state == "stopped" and not member.wanted:
        del state.members[event.instance]


def enter(member: Member, now_in: str, now_us: int) -> None:
    """Be in a state."""
    if member.state != now_in:
        member.state, member.since_us = now_in, now_us
    if now_in not in ("active", "draining"):
        member.running = member.waiting = member.queued_tokens = 0


def rest_seen(state: ScalerState, event: on.RestSeen) -> None:
    """Somebody decided that it sleeps or wakes: this autoscaler, one before it, or a person."""
    member = state.members.get(event.instance)
    if member is None or event.turn <= member.turn:
        return
    member.turn, member.rests = event.turn, not event.wake
    if event.by_hand:
        member.hand_until_us = event.turn + state.limits.hand_us


def refused(state: ScalerState, event: on.RestRefused) -> None:
    """Its node does not let it."""
    member = state.members.get(event.instance)
    if member is not None and event.turn >= member.turn:
        member.turn, member.refused_us, member.rests = event.turn, event.now_us, event.wake


def of_role(state: ScalerState, role: str) -> dict[str, Member]:
    """Those that shall exist, by name."""
    return {n: m for n, m in sorted(state.members.items()) if m.role == role and m.wanted}


def ready(member: Member) -> bool:
    """Whether it takes work now."""
    return member.state == "active" and not member.rests


def called(member: Member) -> bool:
    """Whether it was told to wake since it began to sleep."""
    asleep_now = member.state in ("silent", "draining")
    return asleep_now and not member.rests and member.turn > member.since_us


def coming(member: Member) -> bool:
    """Whether it will take work, by what was decided and what it does."""
    return called(member) or (member.state in COMING and not member.rests)


def asleep(member: Member, now_us: int) -> bool:
    """Whether a wake would do something: it sleeps, or is about to, and was not just told."""
    if member.state not in ("silent", "draining") or now_us - member.refused_us < REFUSED_US:
        return False
    if called(member):
        return now_us - member.turn >= AGAIN_US
    return member.state == "silent" or member.rests


def used(member: Member) -> bool:
    """Whether it holds what an instance at work holds, or may at any moment."""
    return member.state != "stopped" and (member.state != "silent" or called(member))


def by_hand(member: Member, now_us: int) -> bool:
    """Whether somebody decided on it not long ago."""
    return now_us < member.hand_until_us
