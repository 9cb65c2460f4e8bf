"""The autoscaler's core in virtual time, by its rules alone: who sleeps, and who wakes for whom.

Nothing is planned here (for plans see argosy.sim.scaling). Node agents are not simulated: every
instance has a node of its own, with room for it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.autoscaler import AutoscalerCore
from argosy.autoscaler.core.state import AutoscalerState
from argosy.domain.demand import Slo
from argosy.instance.lifecycle import effects as lifecycle_effects
from argosy.instance.lifecycle import events as lifecycle_events
from argosy.router.core.effects import PublishDemand
from argosy.router.core.fleet import members
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.instance import SimInstance
from argosy.sim.fleet.ports import LifecycleHost
from argosy.sim.fleet.router import SimRouter
from argosy.sim.fleet.spec import SimFleet

REPORT_US = 250_000
"""As often as routers report their queues."""
HOP_US = 2_000
"""From a fact to what it makes somebody do elsewhere, by way of the control log."""


class SimAutoscaler:
    """See the module."""

    def __init__(
        self, spec: SimFleet, *, queue: EventQueue, instances: Mapping[str, SimInstance]
    ) -> None:
        self._queue = queue
        self._sim_instances = instances
        self.core = AutoscalerCore(AutoscalerState())
        fleet = spec.instances()
        self._instances = {
            f"{role}-{number}": name
            for role in events.ROLES
            for number, name in enumerate(n for n, r in fleet if r == role)
        }
        self._names = {instance: name for name, instance in self._instances.items()}
        self.feed(events.NodeSeen(now_us=0, node="all", free_bytes=len(fleet)))
        for name in self._instances:
            self.feed(
                events.MemberDecided(
                    now_us=0,
                    instance=name,
                    role=name.partition("-")[0],
                    node="all",
                    run=True,
                    memory_bytes=1,
                )
            )
        self.feed(unplanned(spec.idle_sleep_us, spec.sleep_level))

    def feed(self, event: Any) -> None:
        """Let the core decide, and carry its decisions to the instances."""
        for effect in self.core.step(event):
            if isinstance(effect, effects.DecideSleep | effects.DecideWake):
                self._queue.after(HOP_US, self._decided, effect)

    def start(self, routers: Iterable[SimRouter]) -> None:
        """Begin to hear the reports of these routers."""
        for router in routers:
            self._report(router)

    def demanded(self, router: str, effect: PublishDemand) -> None:
        """Requests wait at a router, and no instance is awake."""
        self._queue.after(HOP_US, self._demanded, router, effect.queued_requests)

    def changed(self, instance: LifecycleHost, effect: lifecycle_effects.PublishChange) -> None:
        """An instance published a change in its life."""
        self._queue.after(
            HOP_US, self._changed, self._names[instance.name], str(instance.epoch), effect
        )

    def _demanded(self, router: str, held: int) -> None:
        self.feed(events.DemandSeen(now_us=self._queue.now_us, router=router, queued_requests=held))

    def _changed(self, name: str, epoch: str, effect: lifecycle_effects.PublishChange) -> None:
        self.feed(
            events.MemberChanged(
                now_us=self._queue.now_us,
                instance=name,
                epoch=epoch,
                change=effect.change,
                state=effect.state,
                took_us=effect.took_us,
            )
        )

    def _report(self, router: SimRouter) -> None:
        state = router.core.state
        self.feed(
            events.TrafficSeen(
                now_us=self._queue.now_us,
                router=router.name,
                epoch="1",
                queued=state.queued_requests,
                queued_tokens=0.0,
                requests=float(state.arrived_requests),
                prompt_tokens=float(state.traffic.prompt_tokens),
                prompt_tokens_squared=state.traffic.prompt_tokens_squared,
                cached_tokens=float(state.traffic.cached_tokens),
                running=len(state.requests) + members.busy_requests(state),
            )
        )
        self._queue.after(REPORT_US, self._report, router)

    def _decided(self, effect: effects.DecideSleep | effects.DecideWake) -> None:
        instance = self._sim_instances[self._instances[effect.instance]]
        if instance.lifecycle is None:
            return
        now_us, sequence = self._queue.now_us, effect.decision_sequence
        if isinstance(effect, effects.DecideWake):
            instance.lifecycle.feed(
                lifecycle_events.WakeRequested(
                    now_us=now_us, decision_sequence=sequence, cause=effect.reason
                )
            )
        else:
            instance.lifecycle.feed(
                lifecycle_events.SleepRequested(
                    now_us=now_us,
                    decision_sequence=sequence,
                    level=effect.level,
                    drain_us=effect.drain_us,
                    cause=effect.reason,
                )
            )


def unplanned(idle_sleep_us: int, level: str) -> events.ScalingApplied:
    """A fleet file that says when all sleep, and asks for no plan."""
    return events.ScalingApplied(
        now_us=0,
        generation=1,
        mode="",
        pools={},
        budget=0,
        silent=0,
        idle_sleep_us=idle_sleep_us,
        sleep_level=level,
        slo=Slo(),
        ratio_min=0,
        ratio_max=0,
        dwell_us=0,
    )
