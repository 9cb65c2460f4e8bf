"""Policies: which rank prefills a request, and which decodes it. One file each.

A policy is a module's `choose(state, candidates, request, now_us, planned) -> Choice | None`
(None: nowhere has room now) and `STAGGERED`: whether requests wait at the router for
the rank they are meant for to be about to become idle, or go there at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from argosy.router.core.fleet.candidates import Candidates, Choice, Planned
from argosy.router.core.placement.policies import (
    dynamo_kv_cost,
    least_cost,
    least_loaded,
    lmetric,
    round_robin,
)
from argosy.router.core.state import RouterState, TrackedRequest

Choose = Callable[[RouterState, Candidates, TrackedRequest, int, Planned], Choice | None]


@dataclass(frozen=True)
class RoutingPolicy:
    """A way to choose."""

    choose: Choose
    staggered: bool


POLICIES = {
    "argosy": RoutingPolicy(least_cost.choose, staggered=True),
    "immediate_round_robin": RoutingPolicy(round_robin.choose, staggered=False),
    "immediate_least_loaded": RoutingPolicy(least_loaded.choose, staggered=False),
    "lmetric": RoutingPolicy(lmetric.choose, staggered=False),
    "kv_cost": RoutingPolicy(dynamo_kv_cost.choose, staggered=False),
}
"""By name; the router's README has a row for each."""
