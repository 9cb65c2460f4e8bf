"""Finds eviction policies by their entry points, and builds the store's core with them.

The core reads no environment: it is handed the installed policies when this module is imported.
Code that needs a state or the spec of the core takes it from here.
"""

from argosy.domain import plugins
from argosy.domain.core import CoreSpec
from argosy.kvstore.core.events import StoreEvent
from argosy.kvstore.core.eviction import POLICIES
from argosy.kvstore.core.state import DEFAULT_POLICY, StoreLimits, StoreState, empty_state
from argosy.kvstore.core.store import StoreCore

GROUP = "argosy.eviction_policies"
"""The entry-point group in which policies are found."""
WHAT = "eviction policy"


def load_policies() -> None:
    """Hand the core every eviction policy that is installed."""
    for name in plugins.names(GROUP):
        POLICIES[name] = plugins.load(GROUP, name, WHAT)


def check_policy(name: str) -> str:
    """The name. Raises ValueError, with the names there are, if no policy has it."""
    return plugins.checked(GROUP, name, WHAT)


def new_state(limits: StoreLimits, eviction_policy: str = DEFAULT_POLICY) -> StoreState:
    """An empty store with this policy in both tiers. Raises ValueError as `check_policy` does."""
    return empty_state(limits, check_policy(eviction_policy))


load_policies()
SPEC = CoreSpec("kvstore", StoreEvent, StoreState, StoreCore)
