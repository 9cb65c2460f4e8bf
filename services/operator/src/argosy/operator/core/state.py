"""All that the operator's core knows."""

import msgspec

from argosy.domain.lifecycle_view import LifecycleView
from argosy.domain.pools import Pool, Template


class PlacedInstance(msgspec.Struct):
    """An instance that shall exist, or did."""

    template: Template
    wanted: bool = True
    node: str = ""
    state: str = "pending"
    reason: str = "no node is known yet"
    since_us: int = 0
    restarts: int = 0
    lifecycle: LifecycleView = msgspec.field(default_factory=LifecycleView)
    """What its processes and its node agent said since it was last decided on anew."""
    refused: bool = False
    """Its node has no room for its process."""
    decided: int = 0
    """Generation of the last decision on it."""


class OperatorState(msgspec.Struct):
    """All that the operator's core knows."""

    generation: int = 0
    pools: list[Pool] = []
    instances: dict[str, PlacedInstance] = {}
    nodes: dict[str, int] = {}
    """Nodes seen, with their memory in bytes."""
    scaled: dict[str, int] = {}
    """By role, how many there are to be, as an autoscaler decided last."""
    scale_generation: int = 0
    stopped: list[str] = []
    """Those it named to be stopped."""
    bounds: dict[str, tuple[int, int]] = {}
