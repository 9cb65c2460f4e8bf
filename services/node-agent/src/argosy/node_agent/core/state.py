"""All that a node agent's core knows."""

from enum import StrEnum

import msgspec

from argosy.domain.lifecycle_view import LifecycleView

GIB = 1 << 30


class ProcessPhase(StrEnum):
    """Where a process is."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REFUSED = "refused"


ALIVE = frozenset({ProcessPhase.STARTING, ProcessPhase.RUNNING, ProcessPhase.STOPPING})
"""There is a process, or there is about to be one."""


class Process(msgspec.Struct):
    """One process this node has been told of."""

    generation: int
    memory_bytes: int
    cores: int
    wanted: bool = True
    phase: ProcessPhase = ProcessPhase.STARTING
    since_us: int = 0
    pid: int = 0
    epoch: str = ""
    restarts: int = 0
    failures: int = 0
    assigned: list[int] = []
    devices: int = 0
    """Accelerators it needs while it is awake."""
    devices_assigned: list[int] = []
    """It keeps to these as long as its process lives."""
    held_bytes: int = 0
    """Promised to what runs, or may again at any moment; it may be of an older decision."""
    reason: str = ""
    lifecycle: LifecycleView = msgspec.field(default_factory=LifecycleView)
    """What its processes said of themselves, and what this agent saw of them."""
    sleep_state: str = ""
    """Draining, silent or waking, as it said or as it was just told; empty: active or loading."""
    asleep_bytes: dict[str, int] = {}
    """What it held asleep, by level, as read."""
    level: str = "dram"
    """At which it sleeps, or was last told to."""
    decision_sequence: int = 0
    """Of the last decision that it sleep or wake."""
    waits: str = ""
    """Why it shall wake, while there is no room yet."""
    woken_sequence: int = 0
    """Of the decision to wake that it was told of last, if no other came since."""
    pooled: bool = False
    """It has a place in the silent pool: it sleeps, or was told to."""

    def expected_bytes(self, level: str) -> int:
        """What it will hold asleep: what it was read to hold, else at most all it has."""
        return min(self.memory_bytes, self.asleep_bytes.get(level, self.memory_bytes))


class NodeState(msgspec.Struct):
    """All that a node agent's core knows."""

    memory_bytes: int
    cores: list[int]
    grace_us: int
    devices: list[int] = []
    silent_bytes: int = 0
    """Most memory that those asleep may hold together; 0: as much as fits the node."""
    silent_per_device: int = 8
    processes: dict[str, Process] = {}
    stopping: bool = False

    @property
    def promised_bytes(self) -> int:
        """Memory that is not free to promise."""
        return sum(process.held_bytes for process in self.processes.values())

    @property
    def free_bytes(self) -> int:
        """What another process may need at most."""
        return self.memory_bytes - self.promised_bytes
