"""Virtual time: the real router core against sim engines, one heap of (time, sequence, event).

Hundreds of instances, hours in seconds, no I/O. Facts and calls take NETWORK_US. The
same trace, fleet and seed give the same outcome on any machine.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from argosy.domain.core import Effect, Event
from argosy.engine.profile import Profile
from argosy.engine.sim.scheduler import EngineStep
from argosy.router.core import effects, events
from argosy.router.core.router import RouterCore
from argosy.router.core.state import RouterLimits, new_state
from argosy.sim.fleet.autoscaler import SimAutoscaler
from argosy.sim.fleet.instance import SimInstance
from argosy.sim.fleet.kv_store import SimStore
from argosy.sim.fleet.request import DEADLINE_US, NETWORK_US, SimRequest
from argosy.sim.fleet.timers import Timers
from argosy.sim.reports.outcome import RequestOutcome, SleepRecord
from argosy.sim.traces.trace import TraceRequest

HEARTBEAT_US = 1_000_000
MAX_RUNNING = 256


@dataclass(frozen=True)
class SimFleet:
    """What is simulated: instances by role. The router chooses the role of `flexible` ones."""

    aggregated: int = 0
    prefill: int = 0
    decode: int = 0
    flexible: int = 0
    dp_ranks: int = 1
    kv_tokens: int = 1_048_576
    """Of each data-parallel rank."""
    block_tokens: int = 64
    policy: str = "argosy"
    profile: Profile = field(default_factory=Profile)
    slo_ttft_ms: float | None = None
    slo_itl_ms: float | None = None
    seed: int = 0
    routers: int = 1
    store_dram_tokens: int = 0
    """Of a KV store that all instances save to and load from; 0: there is none."""
    store_ssd_tokens: int = 0
    idle_sleep_us: int = 0
    """All sleep when nothing was asked for as long; 0: nobody ever sleeps."""
    sleep_level: str = "dram"

    def instances(self) -> list[tuple[str, str]]:
        """(name, role) of each."""
        roles = [
            ("decode", "decode", self.aggregated),
            ("prefill", "prefill", self.prefill),
            ("decode", "decode", self.decode),
            ("flexible", "flexible", self.flexible),
        ]
        return [
            (f"{name}-{number:03d}", role) for name, role, count in roles for number in range(count)
        ]


@dataclass(frozen=True)
class InstanceFault:
    """An instance is killed, and starts again, empty, after a while."""

    at_us: int
    instance: str
    restart_us: int


@dataclass
class SimulationResult:
    """What came of it. outcomes: in the trace's order."""

    outcomes: list[RequestOutcome]
    virtual_us: int
    instance_seconds: float
    """Those asleep take none."""
    sleep_records: list[SleepRecord] = field(default_factory=list)
    """Every sleep and every wake."""


def simulate(
    trace: list[TraceRequest],
    fleet: SimFleet,
    progress: Callable[[int, int], None],
    faults: Sequence[InstanceFault] = (),
) -> SimulationResult:
    """Run a trace to its end. `progress(ended, total)` is called now and then."""
    simulation = Simulation(trace, fleet)
    for fault in faults:
        simulation.at(fault.at_us, simulation.kill, fault.instance, fault.restart_us)
    simulation.run(progress)
    outcomes = [sim_request.outcome for sim_request in simulation.requests]
    return SimulationResult(
        outcomes, simulation.now_us, awake_seconds(simulation), simulation.sleep_records
    )


def awake_seconds(simulation: "Simulation") -> float:
    """Of all instances together."""
    found_us = len(simulation.instances) * simulation.now_us
    slept_us: dict[str, int] = {}
    for sleep_records in simulation.sleep_records:
        if sleep_records.fact == "InstanceSlept":
            slept_us[sleep_records.name] = sleep_records.at_us
        else:
            # Awake again from the moment the wake began.
            found_us -= (
                sleep_records.at_us - sleep_records.took_us - slept_us.pop(sleep_records.name)
            )
    return (found_us - sum(simulation.now_us - at_us for at_us in slept_us.values())) / 1e6


class SimRouter:
    """A router's core in virtual time, with its timers."""

    def __init__(self, simulation: "Simulation", number: int, fleet: SimFleet) -> None:
        self.simulation = simulation
        self.name = f"router-{number}"
        limits = RouterLimits(
            queue_limit=1 << 30,
            attempts_max=100,
            stale_us=5_000_000,
            ledger_us=30_000_000,
            wait_us=DEADLINE_US,
            policy=fleet.policy,
            ttft_limit_us=round(1e3 * fleet.slo_ttft_ms) if fleet.slo_ttft_ms else 0,
            itl_target_ms=fleet.slo_itl_ms or 50,
        )
        self.core = RouterCore(new_state(limits))
        self._timers = Timers(simulation, self.feed)

    def feed(self, event: Event) -> None:
        """Let the core decide and do what it says."""
        for effect in self.core.step(event):  # type: ignore[arg-type]
            if not self._timers.take(effect):
                self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        simulation = self.simulation
        match effect:
            case effects.Dispatch():
                simulation.requests[int(effect.request_id)].dispatched(effect)
            case effects.Reject():
                simulation.requests[int(effect.request_id)].rejected()
            case effects.PublishDemand():
                if simulation.autoscaler is not None:
                    simulation.autoscaler.demanded(self, effect)
            case effects.TellPeerRouters():
                simulation.tell_peer_routers(self, effect)
            case effects.AskKvSnapshot():
                simulation.after(2 * NETWORK_US, self._snapshot, effect.instance)

    def _snapshot(self, name: str) -> None:
        simulation = self.simulation
        instance = simulation.instances.get(name)
        if instance is None:
            assert simulation.store is not None
            self.feed(simulation.store.snapshot(simulation.now_us))
        elif instance.alive:
            self.feed(instance.snapshot(simulation.now_us))


class Simulation:
    """See the module."""

    def __init__(self, trace: list[TraceRequest], fleet: SimFleet) -> None:
        self.fleet = fleet
        self.now_us = 0
        self.heartbeat_us = HEARTBEAT_US
        self.on_step: Callable[[SimInstance, EngineStep], None] | None = None
        self.ended = 0
        self.on_lost_fact: Callable[[Event], bool] | None = None
        """Asked of every fact on its way to a router: True loses it."""
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self.routers = [SimRouter(self, number, fleet) for number in range(fleet.routers)]
        self.requests = [SimRequest(self, n, request) for n, request in enumerate(trace)]
        self.store: SimStore | None = None
        if fleet.store_dram_tokens:
            self.store = SimStore(
                self,
                fleet.store_dram_tokens,
                fleet.store_ssd_tokens,
                fleet.block_tokens,
                fleet.profile.kv_bytes_per_token,
            )
        self.sleep_records: list[SleepRecord] = []
        self.autoscaler: SimAutoscaler | None = None
        if fleet.idle_sleep_us:
            self.autoscaler = SimAutoscaler(self, fleet.idle_sleep_us, fleet.sleep_level)
        blocks = fleet.kv_tokens // fleet.block_tokens
        self.instances = {
            name: SimInstance(
                self,
                name,
                role,
                fleet.profile,
                blocks,
                fleet.block_tokens,
                MAX_RUNNING,
                fleet.dp_ranks,
            )
            for name, role in fleet.instances()
        }

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Until every request has ended."""
        for router in self.routers:
            router.feed(events.BusChanged(now_us=0, connected=True))
        for instance in self.instances.values():
            instance.start()
        if self.store is not None:
            self.store.start()
        if self.autoscaler is not None:
            self.autoscaler.start()
        if len(self.routers) > 1:
            self._greet()
        for sim_request in self.requests:
            # After what the fleet has to say of itself at the start.
            self.at(sim_request.outcome.arrived_us + 10 * NETWORK_US, sim_request.arrive)
        total, steps = len(self.requests), 0
        heap = self._heap
        while self.ended < total and heap:
            self.now_us, _, call, arguments = heapq.heappop(heap)
            call(*arguments)
            steps += 1
            if not steps & 0x3FFF:
                progress(self.ended, total)
        progress(self.ended, total)

    def _greet(self) -> None:
        """Routers hear of each other, as by their queues' facts."""
        for router in self.routers:
            for peer_router in self.routers:
                if peer_router is not router:
                    router.feed(events.PeerRouterSeen(now_us=self.now_us, router=peer_router.name))
        self.after(self.heartbeat_us, self._greet)

    def kill(self, name: str, restart_us: int) -> None:
        """An instance dies, with all it has."""
        if self.instances[name].alive:
            self.instances[name].kill(restart_us)
            for sim_request in self.requests:
                sim_request.instance_lost(name)

    def cut(self, name: str) -> None:
        """An instance that is to sleep lets go of what it has not finished."""
        for sim_request in self.requests:
            sim_request.cut(name)

    def at(self, at_us: int, call: Callable[..., None], *arguments: Any) -> None:
        """Do something at a time."""
        self._sequence += 1
        heapq.heappush(self._heap, (at_us, self._sequence, call, arguments))

    def after(self, delay_us: int, call: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        self.at(self.now_us + delay_us, call, *arguments)

    def tell(self, fact: Callable[[int], Event]) -> None:
        """Let every router know, a moment later."""
        self.after(NETWORK_US, self._deliver, fact, None)

    def tell_peer_routers(self, router: SimRouter, effect: effects.TellPeerRouters) -> None:
        """Let the other routers know."""
        if effect.ended:
            self.after(
                NETWORK_US,
                self._deliver,
                lambda now_us: events.PeerRouterEnded(
                    now_us=now_us, router=router.name, request_ids=[effect.request_id]
                ),
                router,
            )
            return
        self.after(
            NETWORK_US,
            self._deliver,
            lambda now_us: events.PeerRouterDispatched(
                now_us=now_us,
                router=router.name,
                request_id=effect.request_id,
                prefill=effect.prefill,
                prefill_rank=effect.prefill_rank,
                decode=effect.decode,
                decode_rank=effect.decode_rank,
                prompt_tokens=effect.prompt_tokens,
                uncached_tokens=effect.uncached_tokens,
                blocks=effect.blocks,
            ),
            router,
        )

    def _deliver(self, fact: Callable[[int], Event], but: SimRouter | None) -> None:
        event = fact(self.now_us)
        if self.on_lost_fact is not None and self.on_lost_fact(event):
            return
        for router in self.routers:
            if router is not but:
                router.feed(event)
