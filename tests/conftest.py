"""Fleets of sim engines for tests that cross services, and what tests ask of them."""

import asyncio
import inspect
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import httpx
import pytest
import yaml
from google.protobuf.message import Message
from openai import AsyncOpenAI
from signals import send_signal

from argosy.cli.traces import spans
from argosy.client import Client
from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError
from argosy.launcher.home import RunningFleet
from argosy.launcher.launch import LaunchPlan, boot_entries, down, plan, up
from argosy.mesh import rpc
from argosy.mesh.bus import Bus, Envelope
from argosy.mesh.telemetry import start_telemetry
from argosy.wire.decode.v1 import events_pb2 as decode_pb2
from argosy.wire.node_agent.v1 import node_agent_pb2
from argosy.wire.operator.v1 import operator_pb2
from argosy.wire.router.v1 import router_pb2

UP_S = 60
POLL_S = 0.02
POLL_S_MAX = 0.1
"""Questions to services cost milliseconds of CPU each: the longer one waits, the rarer they are.
Short beside every state that a test waits for."""

FLEET_YAML = """\
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {{name: {name}}}
spec:
  model: {{name: sim, source: sim}}
  engine:
    {{kind: sim, blockTokens: 32, kvMemory: {kv_memory}, maxRunning: {max_running},
      simSpeed: {speed}, timing: "{timing}"}}
  split:
    prefill: {{replicas: {prefill}, resources: {{cpu: 0, memory: 256Mi}}}}
    decode:  {{replicas: {decode}, resources: {{cpu: 0, memory: 256Mi}}}}
"""

KV_STORE_YAML = """\
  kvStore:
    dram: 64Mi
    ssd: {path: kv, size: 256Mi}
    staging: 16Mi
"""


async def poll_until(predicate: Callable[[], Any], within_s: float = 60) -> Any:
    """The predicate's first true value; TimeoutError naming it when there is none in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    poll_s = POLL_S
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
            poll_s = min(POLL_S_MAX, poll_s * 1.2)
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"not within {within_s} s: {inspect.getsource(predicate).strip()}")
        await asyncio.sleep(poll_s)


async def run_argosy(*words: str) -> Any:
    """What `argosy ... --json` says, as people call it."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "argosy"),
        *words,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return json.loads(said)


@dataclass
class LiveFleet:
    """A fleet that is up. Everything that connects is made per call: tests have own loops."""

    path: Path
    running: RunningFleet
    prefills: bool = True
    """Whether it has an instance for that alone."""

    @property
    def secret(self) -> bytes:
        """What tickets are signed with."""
        return (self.path / "secret").read_bytes()

    def client(self, *, direct: bool = False) -> Client:
        """An SDK client without spans of its own."""
        return Client(self.running.grpc, direct=direct)

    @asynccontextmanager
    async def traced_client(self, *, direct: bool = False) -> AsyncIterator[Client]:
        """An SDK client whose spans lie beside the fleet's."""
        telemetry = start_telemetry("client", "client", traces_dir=self.path / "traces")
        async with Client(self.running.grpc, direct=direct, tracer=telemetry.tracer) as client:
            yield client
        telemetry.close()

    def http(self) -> httpx.AsyncClient:
        """Plain HTTP to the router."""
        return httpx.AsyncClient(base_url=self.running.http, timeout=30, trust_env=False)

    def openai(self) -> AsyncOpenAI:
        """The OpenAI library, pointed here; it reports errors at once."""
        http = httpx.AsyncClient(trust_env=False)
        return AsyncOpenAI(
            base_url=f"{self.running.http}/v1", api_key="none", max_retries=0, http_client=http
        )

    @asynccontextmanager
    async def channel(self, address: str) -> AsyncIterator[Any]:
        """A gRPC channel to any service."""
        channels = rpc.Channels()
        yield channels.get(address)
        await channels.close()

    async def status(self) -> router_pb2.StatusReply:
        """What the router believes."""
        async with self.client() as client:
            return await client.status()

    async def instance(self, name: str) -> router_pb2.InstanceView:
        """What the router believes of one instance."""
        found = [i for i in (await self.status()).instances if i.instance_id == name]
        return found[0] if found else router_pb2.InstanceView()

    async def processes(self) -> dict[str, node_agent_pb2.Process]:
        """Every process of the node, by name."""
        remote = ControlClient(self.running)
        try:
            return {process.name: process for process in await remote.processes()}
        finally:
            await remote.close()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal a process of the node agent; returns its pid."""
        pid = (await self.processes())[name].pid
        send_signal(pid, number)
        return pid

    async def is_whole(self) -> bool:
        """Whether every process runs and the router would use every instance."""
        try:
            processes = await self.processes()
            instances = {i.instance_id: i for i in (await self.status()).instances}
        except ArgosyError:
            return False
        names = [name for name in processes if name.startswith(("prefill", "decode"))]
        return all(process.state == "running" for process in processes.values()) and all(
            name in instances and instances[name].live for name in names
        )

    async def is_whole_or_asleep(self) -> bool:
        """Whether every process runs, and every instance is active or silent."""
        try:
            processes, lives = await self.processes(), await self.lives()
        except ArgosyError:
            return False
        running = all(process.state == "running" for process in processes.values())
        return running and all(life.state in ("active", "silent") for life in lives.values())

    async def is_at_rest(self, since_us: int) -> bool:
        """Whether every load reported after `since_us` says that nothing is held or waits."""
        status = await self.status()
        loads = [instance.load for instance in status.instances]
        return status.queued_requests == status.running_requests == 0 and all(
            load.at_us > since_us and idle(load) for load in loads
        )

    async def sleep(self, *names: str, level: str = "", drain_s: float = 30) -> None:
        """Have it decided that these (none: all) sleep."""
        remote = ControlClient(self.running)
        try:
            await remote.sleep(list(names), level, round(drain_s * 1e3))
        finally:
            await remote.close()

    async def wake(self, *names: str) -> None:
        """Have it decided that these (none: all) are awake."""
        remote = ControlClient(self.running)
        try:
            await remote.wake(list(names))
        finally:
            await remote.close()

    async def lives(self) -> dict[str, operator_pb2.InstanceStatus]:
        """What the operator believes of the instances that serve the model."""
        remote = ControlClient(self.running)
        try:
            found = (await remote.operator_status()).instances
        finally:
            await remote.close()
        return {i.instance_id: i for i in found if i.role in ("prefill", "decode")}

    async def are(self, state: str, *names: str) -> bool:
        """Whether these (none: all) are in the state, and the router uses those that are active
        and no others.
        """
        lives = await self.lives()
        views = {i.instance_id: i for i in (await self.status()).instances}
        if not set(names or lives) <= lives.keys() & views.keys():
            return False  # Who has just come back has yet to read the log.
        return bool(lives) and all(
            lives[name].state == state and views[name].live == (state == "active")
            for name in names or lives
        )

    async def command(self, *words: str) -> Any:
        """`argosy ... --json` on this fleet, as people call it."""
        where = ("--home", str(self.path.parent), "--fleet", self.running.fleet)
        return await run_argosy(*words, *where)

    async def healthz(self) -> int:
        """The status of /healthz."""
        async with self.http() as http:
            return (await http.get("/healthz")).status_code

    def trace(self, trace_id: str) -> spans.Trace:
        """The one trace of that id, as far as it has been written."""
        (trace,) = spans.find(self.path / "traces", trace_id)
        return trace

    @asynccontextmanager
    async def hears(self, *kinds: type[Message]) -> AsyncIterator[list[Any]]:
        """Stream facts of these types, as they come."""
        heard: list[Any] = []
        listening = asyncio.Event()

        def deliver(fact: Message, envelope: Envelope) -> None:
            heard.append(fact)

        bus = Bus(self.running.nats, self.running.fleet, "test")
        bus.start()
        for kind in kinds:
            bus.listen(kind, deliver)
        # Subscribed last and heard: those before it are in force.
        bus.listen(decode_pb2.LoadReported, lambda fact, envelope: listening.set())
        await asyncio.wait_for(listening.wait(), 10)
        yield heard
        await bus.close()

    @asynccontextmanager
    async def follows(self, *kinds: type[Message]) -> AsyncIterator[list[Any]]:
        """Control facts of these types, from now on."""
        followed: list[Any] = []
        bus = Bus(self.running.nats, self.running.fleet, "test")
        bus.start()
        caught_up = [
            bus.follow(kind, lambda fact, envelope: followed.append(fact), uuid.uuid4().hex)
            for kind in kinds
        ]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in caught_up)), 30)
        followed.clear()
        try:
            yield followed
        finally:
            await bus.close()


def with_settings(name: str, more: dict[str, str]) -> Callable[[LaunchPlan], dict[str, Any]]:
    """boot_entries, with more settings for one process."""

    def entries(planned: LaunchPlan) -> dict[str, Any]:
        found: dict[str, Any] = boot_entries(planned)
        if more:
            found[name]["settings"].update(more)
        return found

    return entries


def idle(load: Any) -> bool:
    """Whether a load is none at all."""
    return not (
        load.running_requests
        or load.waiting_requests
        or load.queued_prefill_tokens
        or load.kv_used_blocks
        or load.kv_held_blocks
    )


@dataclass
class FleetLauncher:
    """Brings fleets up, each in a folder of its own, and takes them all down."""

    root: Path
    fleets: list[tuple[Any, RunningFleet]] = field(default_factory=list)

    async def launch(
        self,
        *,
        name: str = "",
        prefill: int = 1,
        decode: int = 1,
        speed: float = 1,
        max_running: int = 16,
        kv_memory: str = "1Gi",
        kv_store: bool = False,
        idle_sleep_after: str = "",
        timing: dict[str, Any] | None = None,
        scaling: dict[str, Any] | None = None,
        scaler: dict[str, str] | None = None,
    ) -> LiveFleet:
        """A fleet that is ready. speed: how fast its engines' time runs. timing: fields of their
        profile. idle_sleep_after, scaling: as the fleet file has them. scaler: settings of the
        autoscaler.
        """
        name = name or f"f{len(self.fleets)}"
        file = self.root / f"{name}.yaml"
        profile = ""
        if timing is not None:
            profile = f"{name}-timing.yaml"
            (self.root / profile).write_text(yaml.safe_dump(timing))
        text = FLEET_YAML.format(
            name=name,
            prefill=prefill,
            decode=decode,
            speed=speed,
            max_running=max_running,
            kv_memory=kv_memory,
            timing=profile,
        )
        text += KV_STORE_YAML if kv_store else ""
        text += f"  scaling: {{idleSleepAfter: {idle_sleep_after}}}\n" if idle_sleep_after else ""
        if scaling is not None:
            text += f"  scaling: {json.dumps(scaling)}\n"
        file.write_text(text)
        planned = plan(file, self.root, 0, 0)
        with patch(
            "argosy.launcher.launch.boot_entries", with_settings("autoscaler", scaler or {})
        ):
            running = await up(planned, lambda status, waiting: None, UP_S)
        self.fleets.append((planned.home, running))
        return LiveFleet(planned.home.path, running, prefills=prefill > 0)

    def close(self) -> None:
        """Take everything down."""
        while self.fleets:
            down(*self.fleets.pop())


class Eventually(Protocol):
    """Waits for a condition, with a deadline."""

    def __call__(self, predicate: Callable[[], Any], within_s: float = 60) -> Awaitable[Any]:
        """See poll_until."""
        ...


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    return poll_until


@pytest.fixture(scope="session")
def argosy() -> Callable[..., Awaitable[Any]]:
    """See run_argosy."""
    return run_argosy


@pytest.fixture
def long_text() -> str:
    """A prompt of some 1500 tokens that nobody caches: prefill elsewhere is worth its way."""
    return f"{uuid.uuid4().hex} " + "the door of the old ship turns slowly to the north " * 95


@pytest.fixture(scope="session")
def new_fleet_launcher() -> type[FleetLauncher]:
    """For fixtures of wider scope than `fleet_launcher`."""
    return FleetLauncher


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """One prefill, one decode; for tests that leave it as it was."""
    launcher = FleetLauncher(tmp_path_factory.mktemp("fleet"))
    yield asyncio.run(launcher.launch())
    launcher.close()


@pytest.fixture(scope="session")
def slow_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """Ten times slower and with little room, so that there is time in every stage."""
    launcher = FleetLauncher(tmp_path_factory.mktemp("slow"))
    yield asyncio.run(launcher.launch(speed=0.1, max_running=2))
    launcher.close()


@pytest.fixture(scope="session")
def lone_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """As `fleet`, without prefill: decode does all by itself."""
    launcher = FleetLauncher(tmp_path_factory.mktemp("lone"))
    yield asyncio.run(launcher.launch(prefill=0))
    launcher.close()


@pytest.fixture(scope="session")
def slow_lone_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """As `slow_fleet`, without prefill."""
    launcher = FleetLauncher(tmp_path_factory.mktemp("slowlone"))
    yield asyncio.run(launcher.launch(speed=0.1, max_running=2, prefill=0))
    launcher.close()


@pytest.fixture(params=["disaggregated", "local"])
def either_fleet(request: pytest.FixtureRequest) -> LiveFleet:
    """One where `long_text` goes to prefill first, and one where it does not."""
    found: LiveFleet = request.getfixturevalue(
        "fleet" if request.param == "disaggregated" else "lone_fleet"
    )
    return found


@pytest.fixture(params=["disaggregated", "local"])
def either_slow_fleet(request: pytest.FixtureRequest) -> LiveFleet:
    """As either_fleet."""
    found: LiveFleet = request.getfixturevalue(
        "slow_fleet" if request.param == "disaggregated" else "slow_lone_fleet"
    )
    return found


@pytest.fixture
def fleet_launcher(tmp_path: Path) -> Iterator[FleetLauncher]:
    """Fleets for tests that break them."""
    launcher = FleetLauncher(tmp_path)
    yield launcher
    launcher.close()
