"""Policies: which rank prefills a request, and which decodes it. One file each.

A policy is a module's `choose(state, seats, request, now_us, planned) -> Choice | None`
(None: nowhere has room now) and `STAGGERED`: whether requests wait at the router for
the rank they are meant for to be about to become idle, or go there at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from argosy.router.core.policies import (
    argosy,
    immediate_least_loaded,
    immediate_round_robin,
    kv_cost,
    lmetric,
)
from argosy.router.core.seats import Choice, Planned, Seats
from argosy.router.core.state import Request, RouterState

Choose = Callable[[RouterState, Seats, Request, int, Planned], Choice | None]


@dataclass(frozen=True)
class Policy:
    """A way to choose."""

    choose: Choose
    staggered: bool


POLICIES = {
    "argosy": Policy(argosy.choose, staggered=True),
    "immediate_round_robin": Policy(immediate_round_robin.choose, staggered=False),
    "immediate_least_loaded": Policy(immediate_least_loaded.choose, staggered=False),
    "lmetric": Policy(lmetric.choose, staggered=False),
    "kv_cost": Policy(kv_cost.choose, staggered=False),
}
"""By name; the router's README has a row for each."""
