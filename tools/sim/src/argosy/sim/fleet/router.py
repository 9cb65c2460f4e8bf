"""A router in virtual time: the real core, with its timers."""

from collections.abc import Callable, Mapping, Sequence

from argosy.domain.core import Effect, Event
from argosy.router.core import effects
from argosy.router.core.state import RouterLimits, new_state
from argosy.router.policies import new_core
from argosy.sim.fleet.bus import SimBus
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.ports import KvHolder, PlacedRequest
from argosy.sim.fleet.spec import DEADLINE_US, NETWORK_US, SimFleet
from argosy.sim.fleet.timers import Timers


class SimRouter:
    """Feeds its core and carries out what the core decides.

    `requests` are indexed by their request id; `kv_holders` has the instances and the store.
    """

    def __init__(
        self,
        number: int,
        limits: RouterLimits,
        *,
        queue: EventQueue,
        bus: SimBus,
        requests: Sequence[PlacedRequest],
        kv_holders: Mapping[str, KvHolder],
        on_demand: Callable[[str, effects.PublishDemand], None] | None = None,
    ) -> None:
        self.name = f"router-{number}"
        self.core = new_core(new_state(limits))
        self._queue = queue
        self._bus = bus
        self._requests = requests
        self._kv_holders = kv_holders
        self._on_demand = on_demand
        self._timers = Timers(queue, self.feed)

    def feed(self, event: Event) -> None:
        """Let the core decide and carry out its effects."""
        for effect in self.core.step(event):  # type: ignore[arg-type]
            if not self._timers.handle(effect):
                self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case effects.Dispatch():
                self._requests[int(effect.request_id)].dispatched(effect)
            case effects.Reject():
                self._requests[int(effect.request_id)].rejected()
            case effects.PublishDemand():
                if self._on_demand is not None:
                    self._on_demand(self.name, effect)
            case effects.TellPeerRouters():
                self._bus.tell_peer_routers(self, effect)
            case effects.AskKvSnapshot():
                # There and back.
                self._queue.after(2 * NETWORK_US, self._fetch_snapshot, effect.instance)

    def _fetch_snapshot(self, name: str) -> None:
        holder = self._kv_holders[name]
        if holder.alive:
            self.feed(holder.snapshot(self._queue.now_us))


def router_limits(fleet: SimFleet) -> RouterLimits:
    """The limits of a live router, but for those that would drop requests of a trace."""
    return RouterLimits(
        queue_limit=1 << 30,
        attempts_max=100,
        wait_us=DEADLINE_US,
        policy=fleet.policy,
        ttft_limit_us=round(1e3 * fleet.ttft_limit_ms),
        slo=fleet.slo,
    )
