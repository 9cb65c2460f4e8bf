"""Who is at work, who is starting and who is leaving, and what that costs."""

import heapq
from dataclasses import dataclass, field

from argosy.sim.scaling.observation import ROLES

FLAP_S = 600.0
"""A scale-down so soon after a scale-up of the same role undoes it."""


@dataclass
class ReplicaChange:
    """What a role has to do to come to what was decided."""

    start: int = 0
    cancel: int = 0
    """Of those still starting, the youngest first: they never served."""
    drain: int = 0
    """They take nothing new, finish what they have and stop."""


@dataclass
class Replicas:
    """Instances of both roles; all that start, serve or drain count as used."""

    budget: int
    warm_up_s: float
    ready: dict[str, int]
    warming: dict[str, list[float]] = field(default_factory=lambda: {r: [] for r in ROLES})
    """When each will be ready, soonest first."""
    draining: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    changes: list[tuple[float, str, int]] = field(default_factory=list)
    """(when, role, instances more or fewer) of each decision that changed something."""
    used_s: float = 0.0
    peak: int = 0
    at_s: float = 0.0
    """Accounted for until then."""

    @property
    def used(self) -> int:
        """Instances that cost something now."""
        there = sum(self.ready.values()) + sum(map(len, self.warming.values()))
        return there + sum(self.draining.values())

    def pass_time(self, now_s: float) -> None:
        """Account for the time until now, before anything changes."""
        self.used_s += self.used * (now_s - self.at_s)
        self.peak = max(self.peak, self.used)
        self.at_s = now_s

    def warmed(self, now_s: float) -> dict[str, int]:
        """Let those serve whose warm-up is over: how many of each role."""
        found = dict.fromkeys(ROLES, 0)
        for role, times in self.warming.items():
            while times and times[0] <= now_s:
                heapq.heappop(times)
                found[role] += 1
                self.ready[role] += 1
        return found

    def decide(self, wanted: dict[str, int], now_s: float) -> dict[str, ReplicaChange]:
        """Cut a wish to the budget and turn it into steps; counts are as after them.

        What drains has been counted off `ready` and onto `draining`: say `drained` when it
        is gone.
        """
        wanted = within(wanted, self.budget - sum(self.draining.values()))
        steps = {role: ReplicaChange() for role in ROLES}
        more = {r: wanted[r] - self.ready[r] - len(self.warming[r]) for r in ROLES}
        # Leave first: what leaves may still cost for a while, and the budget holds all along.
        for role in sorted(ROLES, key=more.__getitem__):
            if more[role] > 0:
                steps[role].start = min(more[role], self.budget - self.used)
                for _ in range(steps[role].start):
                    heapq.heappush(self.warming[role], now_s + self.warm_up_s)
            elif more[role] < 0:
                self._fewer(role, -more[role], steps[role])
            changed = steps[role].start - steps[role].cancel - steps[role].drain
            if changed:
                self.changes.append((now_s, role, changed))
        return steps

    def _fewer(self, role: str, count: int, step: ReplicaChange) -> None:
        times = self.warming[role]
        step.cancel = min(len(times), count)
        step.drain = count - step.cancel
        times.sort()
        del times[len(times) - step.cancel :]
        self.ready[role] -= step.drain
        self.draining[role] += step.drain

    def drained(self, role: str, count: int) -> None:
        """Note that this many draining instances have left."""
        self.draining[role] -= count


def within(wanted: dict[str, int], room: int) -> dict[str, int]:
    """A wish cut to `room` instances, in proportion; a role that is wanted keeps one if it can."""
    wanted = {role: max(0, wanted.get(role, 0)) for role in ROLES}
    total = sum(wanted.values())
    if total <= room:
        return wanted
    room = max(0, room)
    found = {role: wanted[role] * room // total for role in ROLES}
    for role in ROLES:
        other = ROLES[1 - ROLES.index(role)]
        if not found[role] and wanted[role] and room >= 2:
            found[role], found[other] = 1, min(found[other], room - 1)
    left = room - sum(found.values())
    for role in sorted(ROLES, key=lambda r: -(wanted[r] * room % total)):
        extra = min(left, wanted[role] - found[role])
        found[role] += extra
        left -= extra
    return found


def flaps(changes: list[tuple[float, str, int]]) -> int:
    """Scale-ups of a role undone, at least in part, within ten minutes: each counts once."""
    found = 0
    for role in ROLES:
        up_s = None
        for at_s, changed, more in changes:
            if changed != role:
                continue
            if more > 0:
                up_s = at_s
            elif up_s is not None:
                found += at_s - up_s <= FLAP_S
                up_s = None
    return found
