"""What happens in the lifecycle of an instance."""

from argosy.domain.core import Event, TimerFired


class Loaded(Event, frozen=True, kw_only=True, tag=True):
    """The engine can take requests."""


class SleepRequested(Event, frozen=True, kw_only=True, tag=True):
    """A decision: the instance is to sleep.

    decision_sequence: orders decisions. level: where weights stay (api.SleepLevel). drain_us: how
    long running requests may go on.
    """

    decision_sequence: int
    level: str
    drain_us: int
    cause: str


class WakeRequested(Event, frozen=True, kw_only=True, tag=True):
    """A decision: the instance is to be awake. decision_sequence: orders decisions."""

    decision_sequence: int
    cause: str


class StopRequested(Event, frozen=True, kw_only=True, tag=True):
    """The process is to end in good order."""

    cause: str


class ProcessEnding(Event, frozen=True, kw_only=True, tag=True):
    """The process ends now, whatever is under way."""


class LifecycleStepEnded(Event, frozen=True, kw_only=True, tag=True):
    """A step has ended; `trouble`: why it failed, if it did."""

    step: str
    trouble: str = ""


class MemoryRead(Event, frozen=True, kw_only=True, tag=True):
    """How much memory the process holds was read after it had changed."""

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
