"""What happens on a node."""

from argosy.mesh.core import Event, TimerFired


class ProcessWanted(Event, frozen=True, tag=True):
    """Somebody decided that this process shall run here."""

    name: str
    generation: int
    memory_bytes: int
    cores: int


class ProcessUnwanted(Event, frozen=True, tag=True):
    """Somebody decided that it shall not."""

    name: str
    generation: int


class ProcessStarted(Event, frozen=True, tag=True):
    """It runs."""

    name: str
    pid: int
    epoch: str


class ProcessExited(Event, frozen=True, tag=True):
    """It ended, or could not be started (pid 0)."""

    name: str
    pid: int
    exit_code: int
    message: str = ""


class ShutdownStarted(Event, frozen=True, tag=True):
    """Stop everything."""


NodeEvent = (
    ProcessWanted | ProcessUnwanted | ProcessStarted | ProcessExited | ShutdownStarted | TimerFired
)
