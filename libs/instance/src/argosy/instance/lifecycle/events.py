"""What happens in an instance's life."""

from argosy.domain.core import Event, TimerFired


class Loaded(Event, frozen=True, kw_only=True, tag=True):
    """The engine can take requests."""


class SleepRequested(Event, frozen=True, kw_only=True, tag=True):
    """It shall sleep. decision_sequence: orders decisions; level: where weights stay
    (api.SleepLevel); drain_us: how long what runs may go on.
    """

    decision_sequence: int
    level: str
    drain_us: int
    cause: str


class WakeRequested(Event, frozen=True, kw_only=True, tag=True):
    """It shall be awake."""

    decision_sequence: int
    cause: str


class StopAsked(Event, frozen=True, kw_only=True, tag=True):
    """Its process is to end."""

    cause: str


class Ending(Event, frozen=True, kw_only=True, tag=True):
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
    | StopAsked
    | Ending
    | LifecycleStepEnded
    | MemoryRead
    | TimerFired
)
