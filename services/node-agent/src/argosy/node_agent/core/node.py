"""The processes of one node.

    wanted -> starting -> running -> backing_off -> starting ...
       \\-> refused          \\-> stopping -> stopped

A wanted process that ends is started again: at once the first time, then after a
delay that doubles up to BACKOFF_MAX_US and is forgotten after STABLE_US of running.
An older generation never undoes a newer one.
"""

from argosy.domain.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.domain.lifecycle_view import LifecycleFact
from argosy.node_agent.core import effects, events, sleep
from argosy.node_agent.core.state import ALIVE, GIB, NodeState, Process, ProcessPhase

BACKOFF_US = 500_000
BACKOFF_MAX_US = 10_000_000
STABLE_US = 30_000_000


class NodeCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: NodeState) -> None:
        self.state = state

    def step(self, event: events.NodeEvent) -> list[Effect]:
        """Decide on one event; whatever came free, what waited or was refused may fit now."""
        free_bytes, idle = self.state.free_bytes, len(self._idle_devices())
        found = self._decide(event)
        # Those that wake before those that start: they are quicker, and were here before.
        found += sleep.retry_wakes(self.state)
        if self.state.free_bytes > free_bytes or len(self._idle_devices()) > idle:
            found += self._retry_refused(event.now_us)
        return found

    def _decide(self, event: events.NodeEvent) -> list[Effect]:
        match event:
            case events.ProcessWanted():
                return self._wanted(event)
            case events.ProcessUnwanted():
                return self._unwanted(event)
            case events.SleepDecided():
                return sleep.sleep_decided(self.state, event)
            case events.WakeDecided():
                return sleep.wake_decided(self.state, event)
            case events.LifecycleChanged():
                sleep.lifecycle_changed(self.state, event)
                return []
            case events.ProcessStarted():
                return self._started(event)
            case events.ProcessExited():
                return self._exited(event)
            case events.ShutdownStarted():
                return self._shutdown(event.now_us)
            case TimerFired():
                return self._due(event.key, event.now_us)

    def _wanted(self, event: events.ProcessWanted) -> list[Effect]:
        state, name = self.state, event.name
        before = state.processes.get(name)
        if state.stopping or (before is not None and event.generation <= before.generation):
            return []
        if before is not None and before.phase in ALIVE:
            # Stop the one there is; its successor starts when it has gone.
            before.generation, before.wanted = event.generation, True
            before.memory_bytes, before.cores = event.memory_bytes, event.cores
            before.devices = event.devices
            return self._stop(name, before, event.now_us)
        process = Process(event.generation, event.memory_bytes, event.cores, devices=event.devices)
        state.processes[name] = process
        return [CancelTimer(key=name), *self._start(name, process, event.now_us)]

    def _unwanted(self, event: events.ProcessUnwanted) -> list[Effect]:
        process = self.state.processes.get(event.name)
        if process is None:
            self.state.processes[event.name] = Process(
                event.generation,
                0,
                0,
                wanted=False,
                phase=ProcessPhase.STOPPED,
                since_us=event.now_us,
            )
            return []
        if event.generation <= process.generation:
            return []
        process.generation, process.wanted = event.generation, False
        return self._stop(event.name, process, event.now_us)

    def _start(self, name: str, process: Process, now_us: int) -> list[Effect]:
        # What it held before is not counted against itself.
        process.held_bytes, process.devices_assigned = 0, []
        state, process.since_us = self.state, now_us
        idle = self._idle_devices()
        if process.memory_bytes > state.free_bytes or process.devices > len(idle):
            process.phase, process.reason = ProcessPhase.REFUSED, self._sum(name, process, idle)
            return [
                effects.AnnounceRefused(
                    name=name, reason=process.reason, generation=process.generation
                )
            ]
        process.devices_assigned = idle[: process.devices]
        process.held_bytes = process.memory_bytes
        taken = {core for p in state.processes.values() if p is not process for core in p.assigned}
        spare = [core for core in state.cores if core not in taken]
        enough = 0 < process.cores <= len(spare)
        process.assigned = spare[: process.cores] if enough else []
        process.phase, process.reason = ProcessPhase.STARTING, ""
        return [
            effects.StartProcess(
                name=name, cores=process.assigned, devices=process.devices_assigned
            )
        ]

    def _idle_devices(self) -> list[int]:
        """Devices nobody awake holds, those with the fewest sleepers first."""
        state = self.state
        sleepers = [d for p in state.processes.values() for d in p.devices_assigned]
        taken = sleep.holders(state, state.devices)
        return sorted((d for d in state.devices if d not in taken), key=sleepers.count)

    def _sum(self, name: str, process: Process, idle: list[int]) -> str:
        free = self.state.free_bytes
        if process.devices > len(idle):
            return (
                f"{name} needs {process.devices} devices; of this node's "
                f"{len(self.state.devices)} {len(idle)} are free. Let another sleep, or stop it"
            )
        return (
            f"{name} needs {process.memory_bytes / GIB:.1f} GiB; of this node's "
            f"{self.state.memory_bytes / GIB:.1f} GiB {free / GIB:.1f} are free "
            f"(promised: {sleep.promised(self.state)}). Lower resources.memory or stop something"
        )

    def _started(self, event: events.ProcessStarted) -> list[Effect]:
        process = self.state.processes[event.name]
        process.pid, process.epoch, process.since_us = event.pid, event.epoch, event.now_us
        process.sleep_state, process.waits = "", ""
        process.lifecycle.apply(
            LifecycleFact(state="loading", at_us=event.now_us, epoch=event.epoch)
        )
        process.pooled, process.woken_sequence = False, 0
        announce = effects.AnnounceStarted(
            name=event.name,
            pid=event.pid,
            epoch=event.epoch,
            restarts=process.restarts,
            generation=process.generation,
        )
        if process.phase is ProcessPhase.STOPPING:
            return [announce, *self._end(event.name, process, event.now_us)]
        process.phase = ProcessPhase.RUNNING
        return [announce]

    def _exited(self, event: events.ProcessExited) -> list[Effect]:
        name, process = event.name, self.state.processes[event.name]
        meant = process.phase is ProcessPhase.STOPPING
        announce = effects.AnnounceExited(
            name=name,
            pid=event.pid,
            epoch=process.epoch,
            exit_code=event.exit_code,
            wanted=process.wanted and not meant,
            generation=process.generation,
        )
        ran_us = event.now_us - process.since_us
        process.pid, process.assigned, process.since_us = 0, [], event.now_us
        process.sleep_state, process.waits, process.pooled = "", "", False
        process.lifecycle.apply(
            LifecycleFact(
                state="failed" if announce.wanted else "stopped",
                at_us=event.now_us,
                epoch=process.epoch,
            )
        )
        found: list[Effect] = [CancelTimer(key=name), announce]
        if self.state.stopping or not process.wanted:
            process.phase, process.held_bytes = ProcessPhase.STOPPED, 0
            return found + self._all_stopped()
        if meant:
            return found + self._start(name, process, event.now_us)
        process.restarts += 1
        process.failures = 0 if ran_us > STABLE_US else process.failures + 1
        process.reason = event.message or f"exited with {event.exit_code}"
        if process.failures <= 1:
            return found + self._start(name, process, event.now_us)
        process.phase = ProcessPhase.BACKING_OFF
        delay_us = min(BACKOFF_MAX_US, BACKOFF_US << min(process.failures - 2, 8))
        return [*found, SetTimer(key=name, at_us=event.now_us + delay_us)]

    def _stop(self, name: str, process: Process, now_us: int) -> list[Effect]:
        process.waits = ""
        match process.phase:
            case ProcessPhase.STOPPING:
                return []
            case ProcessPhase.STARTING:  # It is ended as soon as it has started.
                process.phase = ProcessPhase.STOPPING
                return []
            case ProcessPhase.RUNNING:
                process.phase = ProcessPhase.STOPPING
                return self._end(name, process, now_us)
        process.phase, process.held_bytes = ProcessPhase.STOPPED, 0
        return [CancelTimer(key=name), *self._all_stopped()]

    def _end(self, name: str, process: Process, now_us: int) -> list[Effect]:
        process.since_us = now_us
        return [
            effects.StopProcess(name=name, pid=process.pid),
            SetTimer(key=name, at_us=now_us + self.state.grace_us),
        ]

    def _due(self, name: str, now_us: int) -> list[Effect]:
        process = self.state.processes.get(name)
        if process is None:
            return []
        if process.phase is ProcessPhase.STOPPING:
            return [effects.KillProcess(name=name, pid=process.pid)]
        if process.phase is ProcessPhase.BACKING_OFF:
            return self._start(name, process, now_us)
        return []

    def _retry_refused(self, now_us: int) -> list[Effect]:
        found: list[Effect] = []
        for name, process in self.state.processes.items():
            fits = process.memory_bytes <= self.state.free_bytes
            fits = fits and process.devices <= len(self._idle_devices())
            if process.phase is ProcessPhase.REFUSED and fits and not self.state.stopping:
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
        return [effects.ReportAllStopped()] if self.state.stopping and not alive else []


SPEC = CoreSpec("node-agent", events.NodeEvent, NodeState, NodeCore)
