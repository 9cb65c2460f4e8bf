"""Policies: which rank prefills a request, and which decodes it. One file each.

A policy is a module's `choose(state, seats, request, now_us, planned) -> Choice | None`
(None: nowhere has room now) and `STAGGERED`: whether requests wait at the router for
the rank they are meant for to be about to become idle, or go there at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from argosy.router.core.fleet.candidates import Choice, Planned, Seats
from argosy.router.core.placement.policies import (
    dynamo_kv_cost,
    least_cost,
    least_loaded,
    lmetric,
    round_robin,
)
from argosy.router.core.state import Request, RouterState

Choose = Callable[[RouterState, Seats, Request, int, Planned], Choice | None]


@dataclass(frozen=True)
class Policy:
    """A way to choose."""

    choose: Choose
    staggered: bool


POLICIES = {
    "argosy": Policy(least_cost.choose, staggered=True),
    "immediate_round_robin": Policy(round_robin.choose, staggered=False),
    "immediate_least_loaded": Policy(least_loaded.choose, staggered=False),
    "lmetric": Policy(lmetric.choose, staggered=False),
    "kv_cost": Policy(dynamo_kv_cost.choose, staggered=False),
}
"""By name; the router's README has a row for each."""
