"""What the node agent's core wants done."""

from argosy.mesh.core import Effect


class StartProcess(Effect, frozen=True, tag=True):
    """Start it as it was last described, on these cores (none: any)."""

    name: str
    cores: list[int]


class StopProcess(Effect, frozen=True, tag=True):
    """Ask it to end."""

    name: str
    pid: int


class KillProcess(Effect, frozen=True, tag=True):
    """It had its time: end it."""

    name: str
    pid: int


class AnnounceStarted(Effect, frozen=True, tag=True):
    """Publish that it runs."""

    name: str
    pid: int
    epoch: str
    restarts: int
    generation: int


class AnnounceExited(Effect, frozen=True, tag=True):
    """Publish that it ended."""

    name: str
    pid: int
    epoch: str
    exit_code: int
    wanted: bool
    generation: int


class AnnounceRefused(Effect, frozen=True, tag=True):
    """Publish why it cannot run here."""

    name: str
    reason: str
    generation: int


class ReportAllStopped(Effect, frozen=True, tag=True):
    """Nothing runs any more: shutdown may end."""
