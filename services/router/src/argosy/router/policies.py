"""Finds routing policies by their entry points, and builds the router's core with one.

The core reads no environment: it is handed the policy that `limits.policy` names.
"""

from functools import cache

from argosy.domain.core import CoreSpec
from argosy.domain.plugins import check_plugin, load_plugin, plugin_names
from argosy.router.core.events import RouterEvent
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.router import RouterCore
from argosy.router.core.state import RouterState

GROUP = "argosy.routing_policies"


def policy_names() -> list[str]:
    """The names of the installed routing policies, sorted."""
    return plugin_names(GROUP)


def check_policy(name: str) -> None:
    """Raise UnknownPluginError, with the names there are, if no routing policy has this name."""
    check_plugin(GROUP, name)


@cache
def policy_named(name: str) -> RoutingPolicy:
    """The installed routing policy of this name. Raises as `check_policy` does."""
    policy = load_plugin(GROUP, name)
    assert isinstance(policy, RoutingPolicy), f"{GROUP}: {name} is not a RoutingPolicy"
    return policy


def new_core(state: RouterState) -> RouterCore:
    """A core that goes on from this state, with the policy that its limits name."""
    return RouterCore(state, policy_named(state.limits.policy))


SPEC = CoreSpec("router", RouterEvent, RouterState, new_core)
