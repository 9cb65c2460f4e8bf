"""What happens to a fleet."""

import msgspec

from argosy.domain.core import Event
from argosy.domain.pools import Pool, Template


class FleetApplied(Event, frozen=True, kw_only=True, tag=True):
    """The fleet shall be this from now on."""

    generation: int
    pools: list[Pool]
    idle_sleep_us: int = 0
    """Idle for so long, all go to sleep; 0: never."""
    sleep_level: str = "dram"
    bounds: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """By role, the least and most there may be, where an autoscaler says how many."""


class ScaleSeen(Event, frozen=True, kw_only=True, tag=True):
    """An autoscaler decided how many there are to be, by role. An older one changes nothing."""

    generation: int
    exist: dict[str, int]
    stop: list[str] = msgspec.field(default_factory=list)


class ScalerSeen(Event, frozen=True, kw_only=True, tag=True):
    """An autoscaler is there. acts: what it decides is to be done."""

    acts: bool


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
    promised_bytes: int


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
    took_us: int = 0
    """What sleeping or waking took, without waiting for work to end."""
    resident_bytes: int = 0
    level: str = ""


class WorkSeen(Event, frozen=True, kw_only=True, tag=True):
    """A router tells what there is to do: there, and at all instances."""

    router: str
    requests: int
    queued_requests: int
    arrived_requests: int
    """Since the router started."""


class DemandSeen(Event, frozen=True, kw_only=True, tag=True):
    """Requests wait at a router, and no instance is awake for them."""

    router: str
    held_requests: int
    oldest_wait_us: int = 0


class RestAsked(Event, frozen=True, kw_only=True, tag=True):
    """Somebody asks that instances (none named: all) sleep, or wake."""

    instances: list[str]
    wake: bool
    cause: str
    level: str = ""
    drain_us: int = -1
    """-1: as usual."""


class RestRecalled(Event, frozen=True, kw_only=True, tag=True):
    """The control log holds this decision to sleep or to wake."""

    instance: str
    turn: int
    wake: bool
    scaled: bool = False
    """The autoscaler made it."""


class RestRefused(Event, frozen=True, kw_only=True, tag=True):
    """An instance's node does not let it."""

    instance: str
    turn: int
    wake: bool
    reason: str


OperatorEvent = (
    FleetApplied
    | InstanceDecisionRecalled
    | NodeSeen
    | InstanceChanged
    | WorkSeen
    | DemandSeen
    | RestAsked
    | RestRecalled
    | RestRefused
    | ScaleSeen
    | ScalerSeen
)
