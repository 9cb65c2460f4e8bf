"""What happens to a fleet."""

import msgspec

from argosy.mesh.core import Event


class Template(msgspec.Struct, frozen=True):
    """What every instance of a pool is."""

    role: str
    memory_bytes: int
    cores: int
    settings: dict[str, str]


class Pool(msgspec.Struct, frozen=True):
    """Equal instances of one role, as the fleet file asks for them."""

    template: Template
    replicas: int


class FleetApplied(Event, frozen=True, tag=True):
    """The fleet shall be this from now on."""

    generation: int
    pools: list[Pool]


class DecisionRecalled(Event, frozen=True, tag=True):
    """The control log holds this decision, made before a restart or just now."""

    instance: str
    run: bool
    node: str
    template: Template


class NodeSeen(Event, frozen=True, tag=True):
    """A node is there."""

    node: str
    memory_bytes: int
    promised_bytes: int


class InstanceChanged(Event, frozen=True, tag=True):
    """An instance is `state` now: started, ready, draining, stopped, exited, refused."""

    instance: str
    state: str
    reason: str
    restarts: int = -1
    """-1: not said."""
    at_us: int = 0
    """When it changed, by its node's clock: news may overtake older news. 0: just now."""


OperatorEvent = FleetApplied | DecisionRecalled | NodeSeen | InstanceChanged
