"""The operator's core in virtual time: who sleeps, and who wakes for whom.

Node agents are not simulated: every instance has a node of its own, with room for it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from argosy.domain.pools import Pool, Template
from argosy.instance.lifecycle import effects as lifecycle_effects
from argosy.instance.lifecycle import events as lifecycle_events
from argosy.operator.core import effects as operator_effects
from argosy.operator.core import events as operator_events
from argosy.operator.core.operator import OperatorCore
from argosy.operator.core.state import OperatorState
from argosy.router.core.effects import PublishDemand
from argosy.router.core.fleet import members
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.instance import SimInstance
from argosy.sim.fleet.ports import LifecycleHost
from argosy.sim.fleet.router import SimRouter
from argosy.sim.fleet.spec import SimFleet

WORK_US = 250_000
"""As often as routers tell of their queues."""
HOP_US = 2_000
"""From a fact to what it makes somebody do elsewhere, by way of the control log."""


class SimOperator:
    """See the module."""

    def __init__(
        self, spec: SimFleet, *, queue: EventQueue, instances: Mapping[str, SimInstance]
    ) -> None:
        self._queue = queue
        self._sim_instances = instances
        self.core = OperatorCore(OperatorState())
        fleet = spec.instances()
        self._instances = {
            f"{role}-{number}": name
            for role in ("prefill", "decode")
            for number, name in enumerate(n for n, r in fleet if r == role)
        }
        self._names = {instance: name for name, instance in self._instances.items()}
        pools = [
            Pool(Template(role, 1, 0, {}), sum(r == role for _, r in fleet))
            for role in ("prefill", "decode")
        ]
        self.feed(
            operator_events.FleetApplied(
                now_us=0,
                generation=1,
                pools=pools,
                idle_sleep_us=spec.idle_sleep_us,
                sleep_level=spec.sleep_level,
            )
        )
        self.feed(
            operator_events.NodeSeen(
                now_us=0, node="all", memory_bytes=len(fleet), promised_bytes=0
            )
        )

    def feed(self, event: Any) -> None:
        """Let the core decide, and carry its decisions to the instances."""
        for effect in self.core.step(event):
            if isinstance(effect, operator_effects.DecideSleep | operator_effects.DecideWake):
                self._queue.after(HOP_US, self._decided, effect)

    def start(self, routers: Iterable[SimRouter]) -> None:
        """Begin to hear of the work of these routers."""
        for router in routers:
            self._work(router)

    def demanded(self, router: str, effect: PublishDemand) -> None:
        """Requests wait at a router, and nobody is awake."""
        self._queue.after(HOP_US, self._demanded, router, effect.held_requests)

    def changed(self, instance: LifecycleHost, effect: lifecycle_effects.PublishChange) -> None:
        """An instance told of a change in its life."""
        self._queue.after(
            HOP_US, self._changed, self._names[instance.name], str(instance.epoch), effect
        )

    def _demanded(self, router: str, held: int) -> None:
        self.feed(
            operator_events.DemandSeen(now_us=self._queue.now_us, router=router, held_requests=held)
        )

    def _changed(self, name: str, epoch: str, effect: lifecycle_effects.PublishChange) -> None:
        self.feed(
            operator_events.InstanceChanged(
                now_us=self._queue.now_us,
                instance=name,
                state=effect.state,
                reason=effect.cause,
                restarts=-1,
                at_us=0,
                epoch=epoch,
                change=effect.change,
                took_us=effect.took_us,
            )
        )

    def _work(self, router: SimRouter) -> None:
        state = router.core.state
        requests = len(state.requests) + members.busy_requests(state)
        self.feed(
            operator_events.WorkSeen(
                now_us=self._queue.now_us,
                router=router.name,
                requests=requests,
                queued_requests=state.queued_requests,
                arrived_requests=state.arrived_requests,
            )
        )
        self._queue.after(WORK_US, self._work, router)

    def _decided(self, effect: operator_effects.DecideSleep | operator_effects.DecideWake) -> None:
        instance = self._sim_instances[self._instances[effect.instance]]
        if instance.lifecycle is None:
            return
        now_us = self._queue.now_us
        if isinstance(effect, operator_effects.DecideWake):
            instance.lifecycle.feed(
                lifecycle_events.WakeRequested(now_us=now_us, turn=effect.turn, cause=effect.reason)
            )
        else:
            instance.lifecycle.feed(
                lifecycle_events.SleepRequested(
                    now_us=now_us,
                    turn=effect.turn,
                    level=effect.level,
                    drain_us=effect.drain_us,
                    cause=effect.reason,
                )
            )
