"""Who is there, where in its life, and who counts as what.

At work: active. Coming: on its way to work, and will count when it is there. Used: whoever holds
the memory and devices of an instance at work, which the budget is about. A pending or failed
instance is none of these but used: nobody waits for it.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.state import FAR_PAST_US, AutoscalerState, Baseline, Member
from argosy.domain.lifecycle_view import LifecycleFact

COMING = ("loading", "waking")
AGAIN_US = 60_000_000
"""An instance that was decided on and does not move is decided on again after this."""
REFUSED_US = 30_000_000
MOST, SHORT_US = 10, 1_000_000
FULL = 0.97
"""Share of a decode instance's KV from which requests wait for room."""
TRUST = 0.3
"""What one more wake weighs in what waking is known to take."""


def step(
    state: AutoscalerState,
    event: events.MemberDecided | events.MemberChanged | events.RestSeen | events.RestRefused,
) -> None:
    """Take in what happened to an instance."""
    match event:
        case events.MemberDecided():
            decided(state, event)
        case events.MemberChanged():
            changed(state, event)
        case events.RestSeen():
            rest_seen(state, event)
        case events.RestRefused():
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
    """A process describes itself: it has become active, or says again what it is."""
    if event.role not in events.ROLES:
        return
    member = state.members.setdefault(event.instance, Member(event.role, since_us=event.now_us))
    if state.scaling is None and not member.wanted:
        return
    is_news = member.lifecycle.apply(
        LifecycleFact(
            state=event.state,
            at_us=event.at_us or event.now_us,
            epoch=event.epoch,
            change=event.change,
        )
    )
    if member.epoch != event.epoch or (member.described == event.epoch and not is_news):
        return
    base = state.baselines.setdefault(event.role, Baseline())
    # What the log told of since the last plan says nothing of how long it took.
    if member.state in ("pending", "loading") and 0 < member.since_us <= state.planned_us:
        base.start_us = blended(base.start_us, event.now_us - member.since_us)
    member.node, member.rack = event.node, event.rack
    if member.described != event.epoch:
        # A new process counts from zero; one that describes itself again counts on.
        member.described, member.sums, member.heard_us = event.epoch, (0.0, 0.0, 0.0), FAR_PAST_US
    enter(member, member.lifecycle.state, event.now_us)
    if state.scaling is None:
        _told_before(member)


def changed(state: AutoscalerState, event: events.MemberChanged) -> None:
    """It is in another state of its lifecycle."""
    member = state.members.get(event.instance)
    if member is None:
        return
    is_news = member.lifecycle.apply(
        LifecycleFact(
            state=event.state,
            at_us=event.at_us or event.now_us,
            epoch=event.epoch,
            change=event.change,
        )
    )
    if not is_news:
        return
    if event.state == "active" and event.took_us > 0:
        member.woke_took_us = event.took_us
        base = state.baselines.setdefault(member.role, Baseline())
        base.wake_us = blended(base.wake_us, event.took_us)
    if event.state in ("loading", "failed", "stopped") and member.turn <= (
        event.at_us or event.now_us
    ):
        member.rests = False  # What an older process was told does not bind a newer one.
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
    if member.state in ("silent", "draining") and member.turn and not member.rests:
        member.since_us = min(member.since_us, member.turn - 1)


def enter(member: Member, now_in: str, now_us: int) -> None:
    """Be in a state."""
    if member.state != now_in:
        member.state, member.since_us = now_in, now_us
    if now_in not in ("active", "draining"):
        member.running = member.waiting = member.queued_tokens = 0


def rest_seen(state: AutoscalerState, event: events.RestSeen) -> None:
    """Somebody decided that it sleeps or wakes: this autoscaler, one before it, or a person."""
    member = state.members.get(event.instance)
    if member is None or event.turn <= member.turn:
        return
    member.turn, member.rests = event.turn, not event.wake
    if event.by_hand:
        member.hand_until_us = min(event.turn, event.now_us) + state.limits.hand_us
    if state.scaling is None:
        _told_before(member)


def refused(state: AutoscalerState, event: events.RestRefused) -> None:
    """Its node does not let it."""
    member = state.members.get(event.instance)
    if member is not None and event.turn >= member.turn:
        member.turn, member.refused_us, member.rests = event.turn, event.now_us, event.wake


def of_role(state: AutoscalerState, role: str) -> dict[str, Member]:
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
    """Whether a wake would do something: it sleeps, or is to, and was not just told."""
    if now_us - member.refused_us < REFUSED_US:
        return False
    if member.state == "active":
        return member.rests and now_us - member.turn >= AGAIN_US
    if member.state not in ("silent", "draining"):
        return False
    if called(member):
        return now_us - member.turn >= AGAIN_US
    return member.state == "silent" or member.rests


def used(member: Member) -> bool:
    """Whether it holds what an instance at work holds, or may at any moment."""
    return member.state != "stopped" and (member.state != "silent" or called(member))


def no_room(state: AutoscalerState) -> bool:
    """Whether requests wait for room at decode instances."""
    decode = [m for m in of_role(state, "decode").values() if ready(m)]
    return any(m.kv_share > FULL or m.waiting > m.running / 10 for m in decode)


def by_hand(member: Member, now_us: int) -> bool:
    """Whether somebody decided on it not long ago."""
    return now_us < member.hand_until_us
