"""Which instances carry out a target: wakes before starts, sleep before stops.

Woken first: instances that are still on their way to sleep, then those whose wakes were quick. Put
to sleep first: those in a rack that is drained, then those with the least to do. What is on its way
is counted as there, so that nothing is decided twice.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.effects import PoolDecision
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning import bounds as within
from argosy.autoscaler.core.planning.targets import Target, worn_out
from argosy.autoscaler.core.state import AutoscalerState, Baseline, Member

LATE = 3
"""An instance that is not up after this multiple of the start time is given up: its place in the
budget could be another's. Three, so that a slow start is not taken for a stuck one."""


def pools(
    state: AutoscalerState, wanted: dict[str, Target], now_us: int, room: int
) -> list[PoolDecision]:
    """What each role is to do; `room`: how many more may be at work, both roles together."""
    found = []
    for role, target in sorted(wanted.items()):
        pool = pool_decision(state, role, target, now_us, room)
        woken = sum(not members.used(state.members[name]) for name in pool.wake)
        starts = pool.exist - pool.exist_before + len(pool.stop)
        room -= woken + max(0, starts - promised(state, role))
        found.append(pool)
    return found


def promised(state: AutoscalerState, role: str) -> int:
    """Instances that were decided on, and of which nothing has been heard yet."""
    there = len(members.of_role(state, role))
    return max(0, state.decided.exist.get(role, 0) - there)


def pool_decision(
    state: AutoscalerState, role: str, target: Target, now_us: int, room: int
) -> PoolDecision:
    """One role's part."""
    there = members.of_role(state, role)
    drained = within.drained_racks(state, now_us)
    stop = stops(state, role, target, there, now_us)
    stay = {n: m for n, m in there.items() if n not in stop}
    good = {n: m for n, m in stay.items() if m.rack not in drained or not m.rack}
    # An instance that was told to wake long ago and has not moved is not waited for.
    at_work = {
        n: m
        for n, m in good.items()
        if members.ready(m) or (members.coming(m) and not members.asleep(m, now_us))
    }
    wake, room = wakes(good, max(0, target.awake - len(at_work)), now_us, room)
    ready = sum(map(members.ready, at_work.values()))
    # Those on their way take over when they are there.
    sleep = to_sleep(at_work, now_us)[: max(0, ready - target.awake)]
    left_racks = {n: m for n, m in stay.items() if n not in good}
    leaving = to_sleep(left_racks, now_us)
    if not ready and not within.idle(state, now_us):
        leaving = leaving[:-1]  # The last one stays until another is there.
    if ready >= min(target.awake, len(good)):
        sleep += leaving
    elif room <= 0 and not any(m.state == "draining" or m.told_to_sleep for m in stay.values()):
        sleep += leaving[:1]  # None can take over before one has gone.
    # An instance that starts takes room from the beginning.
    more = max(0, target.exist - len(there))
    exist = len(there) - len(stop) + min(more, max(0, room) + promised(state, role))
    assert state.scaling is not None
    return PoolDecision(
        role,
        target.awake,
        exist,
        sum(map(members.ready, there.values())),
        len(there),
        state.scaling.pools[role].high,
        stop,
        wake,
        sleep,
    )


def wakes(there: dict[str, Member], count: int, now_us: int, room: int) -> tuple[list[str], int]:
    """Up to `count` to be woken, as far as there is room, and the room that is left then."""
    chosen = []
    for name in to_wake(there, now_us)[:count]:
        takes = not members.used(there[name])
        if room > 0 or not takes:
            chosen.append(name)
            room -= takes
    return chosen, room


def to_wake(there: dict[str, Member], now_us: int) -> list[str]:
    """Those that can be woken, best first."""
    ranked = sorted(
        (members.called(member), member.state == "silent", member.woke_took_us, name)
        for name, member in there.items()
        if members.asleep(member, now_us) and not members.is_manual(member, now_us)
    )
    return [name for *_, name in ranked]


def to_sleep(at_work: dict[str, Member], now_us: int) -> list[str]:
    """Those that can be put to sleep, best first."""
    ranked = sorted(
        (member.running + member.waiting, member.queued_tokens, member.kv_share, name)
        for name, member in at_work.items()
        if members.ready(member)
        and not members.is_manual(member, now_us)
        and now_us - member.refused_us >= members.REFUSED_US
    )
    return [name for *_, name in ranked]


def stops(
    state: AutoscalerState, role: str, target: Target, there: dict[str, Member], now_us: int
) -> list[str]:
    """Which are to end: those that have slept for too long, and those beyond the most allowed."""
    base = state.baselines.get(role, Baseline())
    # What does not come up holds a place in the budget that another could have.
    late_us = LATE * base.start_us
    found = [
        name
        for name, m in there.items()
        if m.state in ("pending", "failed") and now_us - m.since_us > late_us
    ]
    surplus = len(there) - len(found) - target.exist
    if surplus <= 0:
        return found
    assert state.scaling is not None
    found += [n for n in worn_out(there, base, target.exist, now_us) if n not in found]
    beyond = len(there) - state.scaling.pools[role].high
    if beyond > len(found):
        idle = [n for n, m in there.items() if not members.ready(m) and n not in found]
        busy = [n for n in to_sleep(there, now_us) if n not in found]
        found += [*idle, *busy][: beyond - len(found)]
    return found


def room_left(state: AutoscalerState, budget: int) -> int:
    """How many more may be at work at this moment."""
    used = sum(members.used(member) for member in state.members.values())
    return budget - used - sum(promised(state, role) for role in events.ROLES)


def changes(pool: PoolDecision) -> bool:
    """Whether any instance has to do anything."""
    return bool(pool.wake or pool.sleep or pool.stop) or pool.exist != pool.exist_before
