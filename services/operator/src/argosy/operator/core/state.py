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
    level: str = ""
    """Where its weights are while it sleeps."""
    turn: int = 0
    """Of the last decision that it sleep or wake."""
    rests: bool = False
    """That decision was to sleep."""
    by_hand: bool = False
    """Somebody asked for that."""
    scaled: bool = False
    """The autoscaler decided that."""
    resident_bytes: int = 0
    """As it told when it last slept or woke."""
    slept_took_us: int = 0
    woke_took_us: int = 0
    """How long the steps of its last sleep and wake took, without the drain."""
    rest_refused: str = ""
    """Why its node did not let it sleep or wake as was last decided."""
    rest_refused_us: int = -(1 << 60)
    refused: bool = False
    """Its node has no room for its process."""
    decided: int = 0
    """Generation of the last decision on it."""

    @property
    def started_us(self) -> int:
        """When its process started; 0: that is not known."""
        return self.lifecycle.newest.started_us


class SleepState(msgspec.Struct):
    """What is known of work, and of sleeping and waking, in the fleet as a whole."""

    idle_sleep_us: int = 0
    """0: nothing is put to sleep for being idle."""
    level: str = "dram"
    routers: dict[str, tuple[int, int]] = {}
    """Router: when it was last heard, and how many requests waited there."""
    arrived: dict[str, int] = {}
    """Router: requests it had had since its start."""
    busy_us: int = 0
    """When there was last something to do."""
    slept_us: int = 0
    """When the fleet was last put to sleep; 0: it is not asleep."""
    woken_us: int = 0
    sleep_refused_us: int = -(1 << 60)
    """When a node last refused to let an instance sleep."""
    scaler_us: int = -(1 << 60)
    """When an autoscaler was last heard that acts."""
    patience: float = 1.0
    """How many break-even times to stay idle before sleeping."""


class OperatorState(msgspec.Struct):
    """All that the operator's core knows."""

    generation: int = 0
    pools: list[Pool] = []
    instances: dict[str, PlacedInstance] = {}
    nodes: dict[str, int] = {}
    """Nodes seen, with their memory in bytes."""
    free: dict[str, int] = {}
    """Bytes that are not promised there, as last heard."""
    rest: SleepState = msgspec.field(default_factory=SleepState)
    scaled: dict[str, int] = {}
    """By role, how many there are to be, as an autoscaler decided last."""
    scale_generation: int = 0
    stopped: list[str] = []
    """Those it named to be stopped."""
    bounds: dict[str, tuple[int, int]] = {}
