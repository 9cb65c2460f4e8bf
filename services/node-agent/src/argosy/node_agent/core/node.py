"""The processes of one node.

    wanted -> starting -> running -> backing_off -> starting ...
       \\-> refused          \\-> stopping -> stopped

A wanted process that ends is started again: at once the first time, then after a
delay that doubles up to BACKOFF_MAX_US and is forgotten after STABLE_US of running.
An older generation never undoes a newer one.
"""

from enum import StrEnum

import msgspec

from argosy.mesh.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.node_agent.core import effects as do
from argosy.node_agent.core import events as on

BACKOFF_US = 500_000
BACKOFF_MAX_US = 10_000_000
STABLE_US = 30_000_000
GIB = 1 << 30


class Phase(StrEnum):
    """Where a process is."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REFUSED = "refused"


ALIVE = frozenset({Phase.STARTING, Phase.RUNNING, Phase.STOPPING})
"""There is a process, or there is about to be one."""


class Process(msgspec.Struct):
    """One process this node has been told of."""

    generation: int
    memory_bytes: int
    cores: int
    wanted: bool = True
    phase: Phase = Phase.STARTING
    since_us: int = 0
    pid: int = 0
    epoch: str = ""
    restarts: int = 0
    failures: int = 0
    assigned: list[int] = []
    held_bytes: int = 0
    """Promised to what runs, or may again at any moment; it may be of an older decision."""
    reason: str = ""


class NodeState(msgspec.Struct):
    """All that a node agent's core knows."""

    memory_bytes: int
    cores: list[int]
    grace_us: int
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


class NodeCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: NodeState) -> None:
        self.state = state

    def step(self, event: on.NodeEvent) -> list[Effect]:
        """Decide on one event; whatever freed memory, what was refused may fit now."""
        free_bytes = self.state.free_bytes
        found = self._decide(event)
        if self.state.free_bytes > free_bytes:
            found += self._retry_refused(event.now_us)
        return found

    def _decide(self, event: on.NodeEvent) -> list[Effect]:
        match event:
            case on.ProcessWanted():
                return self._wanted(event)
            case on.ProcessUnwanted():
                return self._unwanted(event)
            case on.ProcessStarted():
                return self._started(event)
            case on.ProcessExited():
                return self._exited(event)
            case on.ShutdownStarted():
                return self._shutdown(event.now_us)
            case TimerFired():
                return self._due(event.key, event.now_us)

    def _wanted(self, event: on.ProcessWanted) -> list[Effect]:
        state, name = self.state, event.name
        before = state.processes.get(name)
        if state.stopping or (before is not None and event.generation <= before.generation):
            return []
        if before is not None and before.phase in ALIVE:
            # Stop the one there is; its successor starts when it has gone.
            before.generation, before.wanted = event.generation, True
            before.memory_bytes, before.cores = event.memory_bytes, event.cores
            return self._stop(name, before, event.now_us)
        process = Process(event.generation, event.memory_bytes, event.cores)
        state.processes[name] = process
        return [CancelTimer(name), *self._start(name, process, event.now_us)]

    def _unwanted(self, event: on.ProcessUnwanted) -> list[Effect]:
        process = self.state.processes.get(event.name)
        if process is None:
            self.state.processes[event.name] = Process(
                event.generation, 0, 0, wanted=False, phase=Phase.STOPPED, since_us=event.now_us
            )
            return []
        if event.generation <= process.generation:
            return []
        process.generation, process.wanted = event.generation, False
        return self._stop(event.name, process, event.now_us)

    def _start(self, name: str, process: Process, now_us: int) -> list[Effect]:
        # What it held before is not counted against itself.
        process.held_bytes = 0
        state, process.since_us = self.state, now_us
        if process.memory_bytes > state.free_bytes:
            process.phase, process.reason = Phase.REFUSED, self._sum(name, process)
            return [do.AnnounceRefused(name, process.reason, process.generation)]
        process.held_bytes = process.memory_bytes
        taken = {core for p in state.processes.values() if p is not process for core in p.assigned}
        spare = [core for core in state.cores if core not in taken]
        enough = 0 < process.cores <= len(spare)
        process.assigned = spare[: process.cores] if enough else []
        process.phase, process.reason = Phase.STARTING, ""
        return [do.StartProcess(name, process.assigned)]

    def _sum(self, name: str, process: Process) -> str:
        free = self.state.free_bytes
        held = ", ".join(
            f"{other} {p.held_bytes / GIB:.1f}"
            for other, p in sorted(self.state.processes.items())
            if p.held_bytes
        )
        return (
            f"{name} needs {process.memory_bytes / GIB:.1f} GiB; of this node's "
            f"{self.state.memory_bytes / GIB:.1f} GiB {free / GIB:.1f} are free "
            f"(promised: {held or 'nothing'}). Lower resources.memory or stop something"
        )

    def _started(self, event: on.ProcessStarted) -> list[Effect]:
        process = self.state.processes[event.name]
        process.pid, process.epoch, process.since_us = event.pid, event.epoch, event.now_us
        announce = do.AnnounceStarted(
            event.name, event.pid, event.epoch, process.restarts, process.generation
        )
        if process.phase is Phase.STOPPING:
            return [announce, *self._end(event.name, process, event.now_us)]
        process.phase = Phase.RUNNING
        return [announce]

    def _exited(self, event: on.ProcessExited) -> list[Effect]:
        name, process = event.name, self.state.processes[event.name]
        meant = process.phase is Phase.STOPPING
        announce = do.AnnounceExited(
            name, event.pid, process.epoch, event.exit_code,
            process.wanted and not meant, process.generation,
        )  # fmt: skip
        ran_us = event.now_us - process.since_us
        process.pid, process.assigned, process.since_us = 0, [], event.now_us
        found: list[Effect] = [CancelTimer(name), announce]
        if self.state.stopping or not process.wanted:
            process.phase, process.held_bytes = Phase.STOPPED, 0
            return found + self._all_stopped()
        if meant:
            return found + self._start(name, process, event.now_us)
        process.restarts += 1
        process.failures = 0 if ran_us > STABLE_US else process.failures + 1
        process.reason = event.message or f"exited with {event.exit_code}"
        if process.failures <= 1:
            return found + self._start(name, process, event.now_us)
        process.phase = Phase.BACKING_OFF
        delay_us = min(BACKOFF_MAX_US, BACKOFF_US << min(process.failures - 2, 8))
        return [*found, SetTimer(name, event.now_us + delay_us)]

    def _stop(self, name: str, process: Process, now_us: int) -> list[Effect]:
        match process.phase:
            case Phase.STOPPING:
                return []
            case Phase.STARTING:  # It is ended as soon as it has started.
                process.phase = Phase.STOPPING
                return []
            case Phase.RUNNING:
                process.phase = Phase.STOPPING
                return self._end(name, process, now_us)
        process.phase, process.held_bytes = Phase.STOPPED, 0
        return [CancelTimer(name), *self._all_stopped()]

    def _end(self, name: str, process: Process, now_us: int) -> list[Effect]:
        process.since_us = now_us
        return [
            do.StopProcess(name, process.pid),
            SetTimer(name, now_us + self.state.grace_us),
        ]

    def _due(self, name: str, now_us: int) -> list[Effect]:
        process = self.state.processes.get(name)
        if process is None:
            return []
        if process.phase is Phase.STOPPING:
            return [do.KillProcess(name, process.pid)]
        if process.phase is Phase.BACKING_OFF:
            return self._start(name, process, now_us)
        return []

    def _retry_refused(self, now_us: int) -> list[Effect]:
        found: list[Effect] = []
        for name, process in self.state.processes.items():
            fits = process.memory_bytes <= self.state.free_bytes
            if process.phase is Phase.REFUSED and fits and not self.state.stopping:
                found += self._start(name, process, now_us)
        return found

    def _shutdown(self, now_us: int) -> list[Effect]:
        self.state.stopping = True
        found: list[Effect] = []
        for name, process in self.state.processes.items():
            found += self._stop(name, process, now_us)
        return found or self._all_stopped()

    def _all_stopped(self) -> list[Effect]:
        alive = any(process.phase in ALIVE for process in self.state.processes.values())
        return [do.ReportAllStopped()] if self.state.stopping and not alive else []


SPEC = CoreSpec("node-agent", on.NodeEvent, NodeState, NodeCore)
