"""What an instance's life wants done."""

from argosy.domain.core import Effect


class TakeStep(Effect, frozen=True, kw_only=True, tag=True):
    """Begin this step (a name of table.Step); ends in StepEnded."""

    step: str
    level: str = ""


class AbandonStep(Effect, frozen=True, kw_only=True, tag=True):
    """Stop what the step waits for; no StepEnded is to follow."""

    step: str


class AbortWork(Effect, frozen=True, kw_only=True, tag=True):
    """What still runs has had its time: it ends here, to go on elsewhere."""


class ResumeWork(Effect, frozen=True, kw_only=True, tag=True):
    """Requests may come again."""


class PublishChange(Effect, frozen=True, kw_only=True, tag=True):
    """Publish the fact of this name (table.FACTS)."""

    fact: str
    state: str
    change: int
    """Numbers the changes of one process."""
    cause: str
    decision_sequence: int
    took_us: int
    """From the decision on."""
    level: str
    steps_us: list[tuple[str, int]]
    """How long each step took, in order."""
    resident_bytes: int
    """As last read."""


class GiveUp(Effect, frozen=True, kw_only=True, tag=True):
    """End the process: what it is in cannot be known any more."""

    reason: str


class ReportStopped(Effect, frozen=True, kw_only=True, tag=True):
    """The process may end."""
