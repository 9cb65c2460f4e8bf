"""What happens on a node."""

from argosy.domain.core import Event, TimerFired


class ProcessWanted(Event, frozen=True, kw_only=True, tag=True):
    """Somebody decided that this process shall run here."""

    name: str
    generation: int
    memory_bytes: int
    cores: int
    devices: int = 0


class ProcessUnwanted(Event, frozen=True, kw_only=True, tag=True):
    """Somebody decided that it shall not."""

    name: str
    generation: int


class ProcessStarted(Event, frozen=True, kw_only=True, tag=True):
    """It runs."""

    name: str
    pid: int
    epoch: str


class ProcessExited(Event, frozen=True, kw_only=True, tag=True):
    """It ended, or could not be started (pid 0)."""

    name: str
    pid: int
    exit_code: int
    message: str = ""


class SleepDecided(Event, frozen=True, kw_only=True, tag=True):
    """An instance shall sleep. decision_sequence: orders decisions on it; cause: why."""

    name: str
    decision_sequence: int
    level: str
    drain_us: int
    cause: str


class WakeDecided(Event, frozen=True, kw_only=True, tag=True):
    """An instance shall be awake."""

    name: str
    decision_sequence: int
    cause: str


class LifecycleChanged(Event, frozen=True, kw_only=True, tag=True):
    """An instance says in which state of its lifecycle it is."""

    name: str
    epoch: str
    change: int
    state: str
    resident_bytes: int
    decision_sequence: int = 0
    """Of the decision that led to the change."""


class ShutdownStarted(Event, frozen=True, kw_only=True, tag=True):
    """Stop everything."""


NodeEvent = (
    ProcessWanted
    | ProcessUnwanted
    | ProcessStarted
    | ProcessExited
    | SleepDecided
    | WakeDecided
    | LifecycleChanged
    | ShutdownStarted
    | TimerFired
)
