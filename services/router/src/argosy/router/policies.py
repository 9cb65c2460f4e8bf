"""Finds routing policies by their entry points, and builds the router's core with one.

The core reads no environment: it is handed the policy that `limits.policy` names.
"""

from argosy.domain import plugins
from argosy.domain.core import CoreSpec
from argosy.router.core.events import RouterEvent
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.router import RouterCore
from argosy.router.core.state import RouterState

GROUP = "argosy.routing_policies"
WHAT = "routing policy"


def policy_names() -> list[str]:
    """The names of the installed routing policies, sorted."""
    return plugins.names(GROUP)


def check_policy(name: str) -> None:
    """Raise BAD_REQUEST, with the names there are, if no routing policy has this name."""
    plugins.check(GROUP, name, WHAT)


def policy_named(name: str) -> RoutingPolicy:
    """The installed routing policy of this name. Raises as `check_policy` does."""
    policy = plugins.load(GROUP, name, WHAT)
    assert isinstance(policy, RoutingPolicy), f"{GROUP}: {name} is not a RoutingPolicy"
    return policy


def new_core(state: RouterState) -> RouterCore:
    """A core that goes on from this state, with the policy that its limits name."""
    return RouterCore(state, policy_named(state.limits.policy))


SPEC = CoreSpec("router", RouterEvent, RouterState, new_core)
