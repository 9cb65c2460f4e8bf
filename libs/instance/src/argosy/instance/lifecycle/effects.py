"""What an instance's lifecycle core asks its shell to do."""

from argosy.domain.core import Effect


class TakeStep(Effect, frozen=True, kw_only=True, tag=True):
    """Begin this step (a LifecycleStep); LifecycleStepEnded follows."""

    step: str
    level: str = ""


class AbandonStep(Effect, frozen=True, kw_only=True, tag=True):
    """Cancel the step; no LifecycleStepEnded follows."""

    step: str


class AbortWork(Effect, frozen=True, kw_only=True, tag=True):
    """End the requests that still run: their callers go on elsewhere."""


class ResumeWork(Effect, frozen=True, kw_only=True, tag=True):
    """Admit requests again."""


class PublishChange(Effect, frozen=True, kw_only=True, tag=True):
    """Publish the fact of this name (domain.lifecycle.FACTS)."""

    fact: str
    state: str
    change: int
    """The number of the change, counted from the start of the process."""
    cause: str
    decision_sequence: int
    took_us: int
    """The time since the decision."""
    level: str
    steps_us: list[tuple[str, int]]
    """How long each step took, in order."""
    resident_bytes: int
    """The memory the process held when it was last read."""


class GiveUp(Effect, frozen=True, kw_only=True, tag=True):
    """End the process: its state is not known any more."""

    reason: str


class ReportStopped(Effect, frozen=True, kw_only=True, tag=True):
    """The process may end."""
