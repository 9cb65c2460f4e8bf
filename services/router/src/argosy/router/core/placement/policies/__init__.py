"""Routing policies: each decides which rank prefills a request and which rank decodes it.

A policy is one file with a function `choose` and a constant `POLICY`, and one line in a
pyproject.toml, under the entry points `argosy.routing_policies`; those of this package are
declared in the router's own. `least_loaded` is a short one to copy.
"""

from collections.abc import Callable
from dataclasses import dataclass

from argosy.router.core.fleet.candidates import Candidates, Choice, Planned
from argosy.router.core.state import RouterState, TrackedRequest

Choose = Callable[[RouterState, Candidates, TrackedRequest, int, Planned], Choice | None]
"""(state, candidates, request, now_us, planned) -> the choice; None: no rank has room now.

`planned` is what the round has promised to requests that wait for a rank. A policy must change
nothing, and must decide the same for the same arguments: no clock, chance or unordered iteration.
"""


@dataclass(frozen=True)
class RoutingPolicy:
    """A way to place requests.

    staggered: a request waits at the router until the rank that `choose` names is about to
    become idle. Otherwise it leaves at once.
    """

    choose: Choose
    staggered: bool
