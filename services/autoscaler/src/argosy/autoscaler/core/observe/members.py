"""Which instances there are, where each is in its life, and which of them count as what.

At work: active. Coming: on its way to work, and will count when it is there. Used: holds the memory
and devices of an instance at work, which the budget is about. A pending or failed instance is none
of these but used: no plan counts on it.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.state import FAR_PAST_US, AutoscalerState, Baseline, Member
from argosy.domain.lifecycle_view import LifecycleFact

COMING = ("loading", "waking")
AGAIN_US = 60_000_000
"""The plan decides again on an instance that has not moved after this: ten times what a wake
usually takes, so that a slow one is not told twice."""
REFUSED_US = 30_000_000
"""The plan leaves an instance alone for as long after its node refused: other instances can take
its place, and asking at every tick would fill the log."""
MOST, SHORT_US = 10, 1_000_000
"""One measured time counts as at most MOST times what was known: a stuck disk is no new normal.
SHORT_US: below it, what was known is no measure of that."""
FULL = 0.97
"""Share of a decode instance's KV from which requests wait for room: engines keep some blocks free
for requests that run."""
TRUST = 0.3
"""What one more measured time weighs: three of them are most of what is known."""


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
        member = Member(event.role, since_us=event.now_us)
        state.members[event.instance] = member
    elif event.generation > member.generation:
        # A new process replaces the one that was told to sleep.
        member.told_to_sleep = False
    member.node, member.memory_bytes = event.node, event.memory_bytes
    member.generation = event.generation


def joined(state: AutoscalerState, event: events.MemberJoined) -> None:
    """A process describes itself: it has become active, or says again what it is."""
    if event.role not in events.ROLES:
        return
    member = state.members.setdefault(event.instance, Member(event.role, since_us=event.now_us))
    if state.scaling is None and not member.wanted:
        return
    was, since_us = member.state, member.since_us
    fact = LifecycleFact(
        state="active", at_us=event.at_us or event.now_us, epoch=event.epoch, change=event.change
    )
    news = _apply(state, member, fact, event.now_us)
    if member.epoch == event.epoch:
        member.node, member.rack = event.node, event.rack
    # What the log told of since the last plan says nothing of how long it took.
    if news and was in ("pending", "loading") and 0 < since_us <= state.planned_us:
        base = state.baselines.setdefault(event.role, Baseline())
        base.start_us = blended(base.start_us, event.now_us - since_us)


def changed(state: AutoscalerState, event: events.MemberChanged) -> None:
    """It is in another state of its life. A fact that is older than what is known changes nothing
    (see argosy.domain.lifecycle_view).
    """
    member = state.members.get(event.instance)
    if member is None:
        return
    fact = LifecycleFact(
        state=event.state, at_us=event.at_us or event.now_us, epoch=event.epoch, change=event.change
    )
    if not _apply(state, member, fact, event.now_us):
        return
    member.resident_bytes = event.resident_bytes or member.resident_bytes
    if event.state == "silent":
        member.slept_took_us, member.level = event.took_us, event.level
    if event.state == "active" and event.took_us > 0:
        member.woke_took_us = event.took_us
        base = state.baselines.setdefault(member.role, Baseline())
        base.wake_us = blended(base.wake_us, event.took_us)
    if state.scaling is None:
        told_before(member)
    if event.state == "stopped" and not member.wanted:
        del state.members[event.instance]


def _apply(state: AutoscalerState, member: Member, fact: LifecycleFact, now_us: int) -> bool:
    """Take a fact into the member's life; whether it is news."""
    epoch = member.epoch
    news = member.lifecycle.apply(fact)
    newest = member.lifecycle.newest
    if epoch != newest.epoch:
        # A new process counts from zero.
        member.sums, member.heard_us = (0.0, 0.0, 0.0), FAR_PAST_US
    if member.decision_sequence < newest.started_us or newest.state in ("failed", "stopped"):
        # A new process starts awake, whatever the old one was told.
        member.told_to_sleep = False
    if not news:
        return False
    if member.state != newest.state:
        member.state, member.since_us = str(newest.state), min(fact.at_us, now_us)
    if newest.state not in ("active", "draining"):
        member.running = member.waiting = member.queued_tokens = 0
    if newest.state == "active":
        state.sleep.up_us = max(state.sleep.up_us, now_us)
    return True


def told_before(member: Member) -> None:
    """While the log is read: a sleeper whose last decision is to wake was told so asleep."""
    asleep_now = member.state in ("silent", "draining")
    if asleep_now and member.decision_sequence and not member.told_to_sleep:
        member.since_us = min(member.since_us, member.decision_sequence - 1)


def blended(known_us: int, took_us: int) -> int:
    """What it is known to take, after once more; one that took far longer counts as the bound."""
    took_us = min(took_us, MOST * max(known_us, SHORT_US))
    return known_us + round(TRUST * (took_us - known_us))


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
    """Whether a person decided on it less than `manual_hold_us` ago."""
    return now_us < member.manual_until_us
