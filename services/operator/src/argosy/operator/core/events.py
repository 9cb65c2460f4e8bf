"""What happens to a fleet."""

import msgspec

from argosy.domain.core import Event
from argosy.domain.pools import Pool, Template


class FleetApplied(Event, frozen=True, kw_only=True, tag=True):
    """The fleet shall be this from now on."""

    generation: int
    pools: list[Pool]
    bounds: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """By role, the least and most there may be, where an autoscaler says how many."""


class ScaleSeen(Event, frozen=True, kw_only=True, tag=True):
    """An autoscaler decided how many there are to be, by role. An older one changes nothing."""

    generation: int
    exist: dict[str, int]
    stop: list[str] = msgspec.field(default_factory=list)


class InstanceDecisionRecalled(Event, frozen=True, kw_only=True, tag=True):
    """The control log holds this decision, made before a restart or just now."""

    instance: str
    run: bool
    node: str
    template: Template
    generation: int = 0


class NodeSeen(Event, frozen=True, kw_only=True, tag=True):
    """A node is there."""

    node: str
    memory_bytes: int


class InstanceChanged(Event, frozen=True, kw_only=True, tag=True):
    """An instance is in `state` now, one of docs/reference/lifecycle.md."""

    instance: str
    state: str
    reason: str
    restarts: int = -1
    """-1: not said."""
    at_us: int = 0
    """When it changed, by its node's clock. 0: just now."""
    epoch: str = ""
    change: int = 0
    """Number of the change, where its process tells of it; 0: its node agent does."""


OperatorEvent = FleetApplied | InstanceDecisionRecalled | NodeSeen | InstanceChanged | ScaleSeen
