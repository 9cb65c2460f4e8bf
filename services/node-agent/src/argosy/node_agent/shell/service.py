"""The node agent: decisions from the bus, processes on the node."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

import psutil
import yaml

from argosy.domain.cpu_list import parse_cores
from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import rpc
from argosy.mesh.bus import Envelope
from argosy.mesh.service import Mesh
from argosy.node_agent.core import effects, events
from argosy.node_agent.core.node import SPEC
from argosy.node_agent.core.state import NodeState
from argosy.node_agent.settings import NodeAgentSettings
from argosy.node_agent.shell.instances import Instances
from argosy.node_agent.shell.processes import Launch, Processes, service_launch, signal_group
from argosy.wire.node_agent.v1 import events_pb2, node_agent_pb2, node_agent_pb2_grpc
from argosy.wire.operator.v1 import events_pb2 as operator_pb2

log = logging.getLogger(__name__)

REPORT_S = 1.0
ROLES = ("prefill", "decode", "kvstore")


class NodeAgentService(node_agent_pb2_grpc.NodeAgentServicer):
    """Runs boot processes and decided instances; serves ListProcesses."""

    def __init__(self, mesh: Mesh[NodeAgentSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        settings = mesh.settings
        state = NodeState(
            memory_bytes=settings.memory_bytes or psutil.virtual_memory().total,
            cores=parse_cores(settings.cores) or sorted(os.sched_getaffinity(0)),
            grace_us=round(settings.stop_grace_s * 1e6),
            devices=[int(device) for device in settings.devices.split(",") if device],
            silent_bytes=settings.silent_bytes,
            silent_per_device=settings.silent_per_device,
        )
        self._state = state
        self._driver = mesh.drive(SPEC, state, self._perform)
        data = settings.data_dir
        self._processes = Processes(data / "logs" if data else None, self._on_exit)
        self._lives = Instances(mesh, state, self._driver)
        self._launches: dict[str, Launch] = {}
        self._starts = itertools.count(1)
        self._instances: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_stopped = asyncio.Event()
        descriptor = node_agent_pb2.DESCRIPTOR.services_by_name["NodeAgent"]
        mesh.server.add(node_agent_pb2_grpc.add_NodeAgentServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Start what the boot file names, then follow decisions."""
        for name, launch in read_boot(self.mesh.settings).items():
            self._launches[name] = launch
            self._driver.feed(
                events.ProcessWanted(
                    now_us=self._driver.now_us(), name=name, generation=1, memory_bytes=0, cores=0
                )
            )
        await self.mesh.wait_for_bus()
        self._spawn(self._report())
        durable = f"{self.mesh.name}-{self.mesh.epoch}-decided"
        await self.mesh.bus.follow(operator_pb2.InstanceDecided, self._on_decided, durable).wait()
        await self._lives.start()

    async def drain(self) -> None:
        """Stop every process: instances first, then what they stand on."""
        for name in sorted(self._instances):
            self._unwant(name)
        while any(self._state.processes[name].pid for name in self._instances):
            await asyncio.sleep(0.02)
        for name in reversed([n for n in self._launches if n not in self._instances]):
            self._unwant(name)
            while self._state.processes[name].pid:
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End whatever is left, at once if it must be."""
        self._driver.feed(events.ShutdownStarted(now_us=self._driver.now_us()))
        try:
            await asyncio.wait_for(self._all_stopped.wait(), 5)
        except TimeoutError:
            for process in self._state.processes.values():
                if process.pid:
                    signal_group(process.pid, signal.SIGKILL)
        for task in self._tasks:
            task.cancel()

    @rpc.handler("node_agent.list_processes", traced=False)
    async def ListProcesses(self, request: Any, context: Any) -> node_agent_pb2.ListProcessesReply:
        """Every process this node has been told of."""
        reply = node_agent_pb2.ListProcessesReply(node=self.mesh.settings.node)
        for name, process in self._state.processes.items():
            reply.processes.append(
                node_agent_pb2.Process(
                    name=name,
                    pid=process.pid,
                    state=process.phase,
                    restarts=process.restarts,
                    reason=process.reason,
                    since_ms=process.since_us // 1000,
                    rss_bytes=rss_bytes(process.pid),
                )
            )
        return reply

    def _on_decided(self, fact: operator_pb2.InstanceDecided, envelope: Envelope) -> None:
        if fact.node != self.mesh.settings.node:
            return
        name, now_us = fact.instance_id, self._driver.now_us()
        if fact.run and fact.role not in ROLES:
            log.error("%s: this agent runs %s, not '%s'", name, ", ".join(ROLES), fact.role)
            return
        before = self._state.processes.get(name)
        if before is not None and fact.generation <= before.generation:
            return
        self._instances.add(name)
        if not fact.run:
            self._driver.feed(
                events.ProcessUnwanted(now_us=now_us, name=name, generation=fact.generation)
            )
            return
        self._launches[name] = service_launch(fact.role, dict(fact.settings))
        self._driver.feed(
            events.ProcessWanted(
                now_us=now_us,
                name=name,
                generation=fact.generation,
                memory_bytes=fact.memory_bytes,
                cores=int(fact.cpu),
                devices=fact.devices,
            )
        )

    def _unwant(self, name: str) -> None:
        process = self._state.processes[name]
        event = events.ProcessUnwanted(
            now_us=self._driver.now_us(), name=name, generation=process.generation + 1
        )
        self._driver.feed(event)

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.StartProcess():
                self._spawn(self._start(effect))
            case effects.StopProcess():
                signal_process(effect.pid, signal.SIGTERM)
            case effects.KillProcess():
                signal_group(effect.pid, signal.SIGKILL)
            case effects.PutToSleep() | effects.WakeUp():
                self._spawn(self._lives.ask(effect))
            case effects.ReportAllStopped():
                self._all_stopped.set()
            case effects.AnnounceStarted() | effects.AnnounceExited() | effects.AnnounceRefused():
                self._announce(effect)
            case effects.AnnounceSleepDecisionRefused():
                self._lives.announce_refused(effect)

    async def _start(self, effect: effects.StartProcess) -> None:
        name, launch = effect.name, self._launches[effect.name]
        epoch = f"{self.mesh.epoch}-{next(self._starts)}"
        extra = self._common_settings(name, epoch, effect.cores)
        if effect.devices:
            launch = launch.seeing(effect.devices)
        try:
            pid = await self._processes.start(name, launch, extra)
        except OSError as error:
            message = f"cannot start {launch.command[0]}: {error.strerror}"
            self._driver.feed(
                events.ProcessExited(
                    now_us=self._driver.now_us(), name=name, pid=0, exit_code=127, message=message
                )
            )
            return
        self._driver.feed(
            events.ProcessStarted(now_us=self._driver.now_us(), name=name, pid=pid, epoch=epoch)
        )

    def _common_settings(self, name: str, epoch: str, cores: list[int]) -> dict[str, str]:
        """What every child shares with this agent."""
        ours = self.mesh.settings
        common = {
            "fleet": ours.fleet,
            "instance_id": name,
            "epoch": epoch,
            "node": ours.node,
            "nats_url": ours.nats_url,
            "fleet_secret": ours.fleet_secret.get_secret_value(),
            "log_level": ours.log_level,
        }
        if ours.data_dir is not None:
            common["data_dir"] = str(ours.data_dir)
        if ours.otlp_endpoint:
            common["otlp_endpoint"] = ours.otlp_endpoint
        if cores:
            common["cpu_cores"] = ",".join(map(str, cores))
        return common

    def _on_exit(self, name: str, pid: int, code: int) -> None:
        self._driver.feed(
            events.ProcessExited(now_us=self._driver.now_us(), name=name, pid=pid, exit_code=code)
        )

    def _announce(self, effect: Any) -> None:
        if effect.name not in self._instances:
            return
        node = self.mesh.settings.node
        fact: Any
        match effect:
            case effects.AnnounceStarted():
                fact = events_pb2.InstanceStarted(
                    instance_id=effect.name,
                    node=node,
                    pid=effect.pid,
                    epoch=effect.epoch,
                    restarts=effect.restarts,
                    generation=effect.generation,
                )
            case effects.AnnounceExited():
                fact = events_pb2.InstanceExited(
                    instance_id=effect.name,
                    node=node,
                    pid=effect.pid,
                    epoch=effect.epoch,
                    exit_code=effect.exit_code,
                    wanted=effect.wanted,
                    generation=effect.generation,
                )
            case _:
                fact = events_pb2.InstanceRefused(
                    instance_id=effect.name,
                    node=node,
                    reason=effect.reason,
                    generation=effect.generation,
                )
        self.mesh.bus.publish(fact)

    async def _report(self) -> None:
        while True:
            self.mesh.bus.publish(
                events_pb2.NodeReported(
                    node=self.mesh.settings.node,
                    memory_bytes=self._state.memory_bytes,
                    promised_bytes=self._state.promised_bytes,
                    processes=len(self._state.processes),
                    **self._lives.pool(),
                )
            )
            await asyncio.sleep(REPORT_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def read_boot(settings: NodeAgentSettings) -> dict[str, Launch]:
    """Name -> launch, from `name: {command: [...]}` or `name: {service: s, settings: {...}}`."""
    if settings.boot_file is None:
        return {}
    try:
        entries = yaml.safe_load(settings.boot_file.read_text())
    except (OSError, yaml.YAMLError) as error:
        message = f"cannot read boot file {settings.boot_file}: {error}"
        raise ArgosyError(Reason.NOT_READY, message) from error
    found = {}
    for name, entry in entries.items():
        if "command" in entry:
            found[name] = Launch(entry["command"])
        else:
            found[name] = service_launch(entry["service"], entry.get("settings", {}))
    return found


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and all it started; 0 when it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        if pid:
            process = psutil.Process(pid)
            for each in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += each.memory_info().rss
    return total


def signal_process(pid: int, number: signal.Signals) -> None:
    """Signal one process; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
