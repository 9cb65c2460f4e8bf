"""What the node agent's core wants done."""

from argosy.domain.core import Effect


class StartProcess(Effect, frozen=True, kw_only=True, tag=True):
    """Start it as it was last described, on these cores (none: any) and devices."""

    name: str
    cores: list[int]
    devices: list[int]


class StopProcess(Effect, frozen=True, kw_only=True, tag=True):
    """Ask it to end."""

    name: str
    pid: int


class KillProcess(Effect, frozen=True, kw_only=True, tag=True):
    """It had its time: end it."""

    name: str
    pid: int


class AnnounceStarted(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that it runs."""

    name: str
    pid: int
    epoch: str
    restarts: int
    generation: int


class AnnounceExited(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that it ended."""

    name: str
    pid: int
    epoch: str
    exit_code: int
    wanted: bool
    generation: int


class AnnounceRefused(Effect, frozen=True, kw_only=True, tag=True):
    """Publish why it cannot run here."""

    name: str
    reason: str
    generation: int


class PutToSleep(Effect, frozen=True, kw_only=True, tag=True):
    """Ask an instance to sleep."""

    name: str
    decision_sequence: int
    level: str
    drain_us: int
    cause: str


class WakeUp(Effect, frozen=True, kw_only=True, tag=True):
    """Ask an instance to wake."""

    name: str
    decision_sequence: int
    cause: str


class AnnounceSleepDecisionRefused(Effect, frozen=True, kw_only=True, tag=True):
    """Publish why it cannot sleep, or (`wake`) wake."""

    name: str
    decision_sequence: int
    reason: str
    wake: bool


class ReportAllStopped(Effect, frozen=True, kw_only=True, tag=True):
    """Nothing runs any more: shutdown may end."""
