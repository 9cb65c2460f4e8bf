"""A fleet in virtual time: real cores, sim engines, and one queue of events that connects them.

Hundreds of instances and hours of traffic take seconds, and nothing does I/O. The same trace,
fleet and seed give the same outcome on any machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from argosy.router.core import effects, events
from argosy.sim.fleet.autoscaler import SimAutoscaler
from argosy.sim.fleet.bus import SimBus
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.instance import InstancePorts, SimInstance
from argosy.sim.fleet.kv_store import SimStore
from argosy.sim.fleet.lifecycle import SimLifecycle
from argosy.sim.fleet.ports import KvHolder
from argosy.sim.fleet.request import RequestPorts, SimRequest
from argosy.sim.fleet.router import SimRouter, router_limits
from argosy.sim.fleet.spec import NETWORK_US, InstanceFault, InstanceShape, SimFleet
from argosy.sim.reports.outcome import RequestOutcome, SleepRecord
from argosy.sim.traces.trace import TraceRequest

PROGRESS_EVENTS = 0x3FFF
"""Progress is told once in this many events (and one): rarely enough that it costs nothing."""


@dataclass
class SimulationResult:
    """The outcomes are in the trace's order."""

    outcomes: list[RequestOutcome]
    virtual_us: int
    instance_seconds: float
    """How long instances were awake, all together."""
    sleep_records: list[SleepRecord] = field(default_factory=list)
    """Every sleep and every wake."""


def simulate(
    trace: list[TraceRequest],
    fleet: SimFleet,
    progress: Callable[[int, int], None],
    faults: Sequence[InstanceFault] = (),
) -> SimulationResult:
    """Run a trace to its end. `progress(ended, total)` is called now and then."""
    simulation = Simulation(trace, fleet, faults)
    simulation.run(progress)
    return SimulationResult(
        [sim_request.outcome for sim_request in simulation.requests],
        simulation.queue.now_us,
        awake_seconds(len(simulation.instances), simulation.queue.now_us, simulation.sleep_records),
        simulation.sleep_records,
    )


def awake_seconds(instances: int, now_us: int, sleep_records: Sequence[SleepRecord]) -> float:
    """How long instances were awake, all together."""
    awake_us = instances * now_us
    slept_us: dict[str, int] = {}
    for record in sleep_records:
        if record.fact == "InstanceSlept":
            slept_us[record.name] = record.at_us
        else:
            # It counts as awake from the moment at which it began to wake.
            awake_us -= record.at_us - record.took_us - slept_us.pop(record.name)
    return (awake_us - sum(now_us - at_us for at_us in slept_us.values())) / 1e6


class Simulation:
    """Builds the actors of a fleet, gives each the ports it needs, and runs a trace."""

    def __init__(
        self, trace: list[TraceRequest], fleet: SimFleet, faults: Sequence[InstanceFault] = ()
    ) -> None:
        self.queue = EventQueue()
        self.bus = SimBus(self.queue)
        self.requests: list[SimRequest] = []
        self.instances: dict[str, SimInstance] = {}
        self.sleep_records: list[SleepRecord] = []
        self._kv_holders: dict[str, KvHolder] = {}
        self._ended = 0
        self._store = self._new_store(fleet)
        self._autoscaler = self._new_autoscaler(fleet)
        self.instance_ports = self._new_instance_ports()
        on_demand = self._autoscaler.demanded if self._autoscaler is not None else None
        self.routers = [self._new_router(n, fleet, on_demand) for n in range(fleet.routers)]
        ports = RequestPorts(self.queue, self.instances, self._store, self._count_ended)
        self.requests += [
            SimRequest(n, request, self.routers[n % len(self.routers)], ports)
            for n, request in enumerate(trace)
        ]
        for name, role in fleet.instances():
            self.add_instance(name, role, fleet.shape())
        for fault in faults:
            self.queue.at(fault.at_us, self.kill, fault.instance, fault.restart_us)

    def run(self, progress: Callable[[int, int], None] = lambda ended, total: None) -> None:
        """Run until every request has ended. `progress(ended, total)` is called now and then."""
        self._start_actors()
        for sim_request in self.requests:
            # The first requests come once the routers have heard of the fleet.
            arrives_us = sim_request.outcome.arrived_us + 10 * NETWORK_US
            self.queue.at(arrives_us, sim_request.arrive)
        total, count = len(self.requests), 0
        while self._ended < total and self.queue.run_next():
            count += 1
            if not count & PROGRESS_EVENTS:
                progress(self._ended, total)
        progress(self._ended, total)

    def add_instance(self, name: str, role: str, shape: InstanceShape) -> SimInstance:
        """A new instance, which joins the fleet once it is started."""
        instance = SimInstance(name, role, shape, self.instance_ports)
        self.instances[name] = self._kv_holders[name] = instance
        return instance

    def kill(self, name: str, restart_us: int) -> None:
        """Kill an instance, unless it is dead already. It starts again after `restart_us`."""
        if self.instances[name].alive:
            self.instances[name].kill(restart_us)
            for sim_request in self.requests:
                sim_request.instance_lost(name)

    def _start_actors(self) -> None:
        for router in self.routers:
            router.feed(events.BusChanged(now_us=0, connected=True))
        for instance in self.instances.values():
            instance.start()
        if self._store is not None:
            self._store.start()
        if self._autoscaler is not None:
            self._autoscaler.start(self.routers)
        if len(self.routers) > 1:
            self.bus.introduce_routers()

    def _new_store(self, fleet: SimFleet) -> SimStore | None:
        if not fleet.store_dram_tokens:
            return None
        store = SimStore(fleet, queue=self.queue, publish=self.bus.publish)
        self._kv_holders[store.name] = store
        return store

    def _new_autoscaler(self, fleet: SimFleet) -> SimAutoscaler | None:
        if not fleet.idle_sleep_us:
            return None
        return SimAutoscaler(fleet, queue=self.queue, instances=self.instances)

    def _new_instance_ports(self) -> InstancePorts:
        ports = InstancePorts(self.queue, self.bus.publish, self._store)
        if self._autoscaler is not None:
            ports.new_lifecycle = partial(
                SimLifecycle,
                queue=self.queue,
                abort_requests=self._abort_requests,
                on_change=self._autoscaler.changed,
                sleep_records=self.sleep_records,
            )
        return ports

    def _new_router(
        self,
        number: int,
        fleet: SimFleet,
        on_demand: Callable[[str, effects.PublishDemand], None] | None,
    ) -> SimRouter:
        router = SimRouter(
            number,
            router_limits(fleet),
            queue=self.queue,
            bus=self.bus,
            requests=self.requests,
            kv_holders=self._kv_holders,
            on_demand=on_demand,
        )
        self.bus.subscribe(router)
        return router

    def _abort_requests(self, name: str) -> None:
        """An instance that is to sleep aborts what it has not finished."""
        for sim_request in self.requests:
            sim_request.abort(name)

    def _count_ended(self) -> None:
        self._ended += 1
