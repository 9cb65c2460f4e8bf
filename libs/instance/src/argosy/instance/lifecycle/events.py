"""What happens in an instance's life."""

from argosy.domain.core import Event, TimerFired


class Loaded(Event, frozen=True, kw_only=True, tag=True):
    """The engine can take requests."""


class SleepRequested(Event, frozen=True, kw_only=True, tag=True):
    """It shall sleep. turn: orders decisions; level: where weights stay (api.SleepLevel);
    drain_us: how long what runs may go on.
    """

    turn: int
    level: str
    drain_us: int
    cause: str


class WakeRequested(Event, frozen=True, kw_only=True, tag=True):
    """It shall be awake."""

    turn: int
    cause: str


class StopRequested(Event, frozen=True, kw_only=True, tag=True):
    """Its process is to end."""

    cause: str


class ProcessEnding(Event, frozen=True, kw_only=True, tag=True):
    """Its process ends now, whatever is under way."""


class LifecycleStepEnded(Event, frozen=True, kw_only=True, tag=True):
    """A step is done; `trouble`: or it failed, and why."""

    step: str
    trouble: str = ""


class MemoryRead(Event, frozen=True, kw_only=True, tag=True):
    """How much memory the process holds, read when it had changed."""

    resident_bytes: int


LifecycleEvent = (
    Loaded
    | SleepRequested
    | WakeRequested
    | StopRequested
    | ProcessEnding
    | LifecycleStepEnded
    | MemoryRead
    | TimerFired
)
