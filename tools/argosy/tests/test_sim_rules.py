"""What the router must never do with a fleet, whatever the load; at small scale, in virtual time."""

from collections import Counter
from typing import Any

import pytest

from argosy.cli.sim.report import report_of
from argosy.cli.sim.ship import Ship
from argosy.cli.sim.trace import TraceRequest
from argosy.cli.sim.world import Fault, Fleet, World
from argosy.router.core.policies import POLICIES

S = 1_000_000
LOOK_US = 500
TOLERATED_US = 5_000
"""A few messages, and what is sent ahead of an instance's becoming idle."""
FLEETS = {
    "aggregated": Fleet(aggregated=4), "apart": Fleet(prefill=2, decode=2), "free": Fleet(free=4),
    "ranks": Fleet(aggregated=2, dp_ranks=2), "ranks apart": Fleet(prefill=1, decode=1, dp_ranks=2),
}  # fmt: skip


class Watch:
    """Looks at a world again and again: for how long did instances idle while requests waited?"""

    def __init__(self, world: World) -> None:
        self.world = world
        self.since_us: int | None = None
        self.worst_us = 0
        self.seen: Counter[str] = Counter()
        world.at(0, self.look)

    def look(self) -> None:
        world, now_us = self.world, self.world.now_us
        ships = list(world.ships.values())
        idle = sum(map(is_idle, ships))
        queued = any(router.core.state.queued_requests for router in world.routers)
        queued = queued or any(rank.waiting for ship in ships for rank in ship.scheduler.ranks)
        self.seen["idle"] += idle >= 2
        self.seen["queued"] += queued
        if idle >= 2 and queued:
            self.since_us = now_us if self.since_us is None else self.since_us
            self.worst_us = max(self.worst_us, now_us - self.since_us)
        else:
            self.since_us = None
        world.at(now_us + LOOK_US, self.look)


def is_idle(ship: Ship) -> bool:
    ranks = ship.scheduler.ranks
    return not any(rank.waiting or rank.running or rank.pulling for rank in ranks)


def shares(world: World, picked: list[TraceRequest]) -> list[float]:
    """The share of these requests that each instance had, in order of the instances' names."""
    wanted = {id(request) for request in picked}
    had = Counter(p.outcome.instance for p in world.passages if id(p.request) in wanted)
    return [had[name] / had.total() for name in sorted(world.ships)]


@pytest.mark.parametrize("requests_per_s", [15, 30, 45])
def test_two_of_five_instances_never_idle_while_requests_queue(
    traffic: Any, play: Any, requests_per_s: float
) -> None:
    trace = traffic(seed=1).stream(requests_per_s, 20, output_tokens=(1, 8))
    watches: list[Watch] = []
    play(trace, Fleet(aggregated=5), prepare=lambda world: watches.append(Watch(world)))
    (watch,) = watches
    assert watch.seen["idle"]
    assert watch.seen["queued"]
    assert watch.worst_us <= TOLERATED_US
