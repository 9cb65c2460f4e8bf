"""What happens to a fleet."""

import msgspec
from argosy.mesh.core import Event


class Pool(msgspec.Struct, frozen=True):
    """Equal instances of one role, as the fleet file asks for them."""

    role: str
    replicas: int
    memory_bytes: int
    cores: int
    settings: dict[str, str]


class FleetApplied(Event, frozen=True, tag=True):
    """The fleet shall be this from now on."""

    generation: int
    pools: list[Pool]


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


OperatorEvent = FleetApplied | NodeSeen | InstanceChanged
