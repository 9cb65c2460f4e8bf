"""The operator's core in virtual time: who sleeps, and who wakes for whom.

Node agents are not simulated: every instance has a node of its own, with room for it.
"""

from typing import TYPE_CHECKING, Any

from argosy.domain.pools import Pool, Template
from argosy.instance.lifecycle import effects as lifecycle_effects
from argosy.instance.lifecycle import events as lifecycle_events
from argosy.operator.core import effects as operator_effects
from argosy.operator.core import events as operator_events
from argosy.operator.core.operator import OperatorCore
from argosy.operator.core.state import OperatorState
from argosy.router.core.effects import TellDemand
from argosy.router.core.fleet import members

if TYPE_CHECKING:
    from argosy.sim.fleet.instance import Ship
    from argosy.sim.fleet.simulation import Router, World

WORK_US = 250_000
"""As often as routers tell of their queues."""
HOP_US = 2_000
"""From a fact to what it makes somebody do elsewhere, by way of the control log."""


class SimOperator:
    """See the module."""

    def __init__(self, world: "World", idle_sleep_us: int, level: str) -> None:
        self.world = world
        self.core = OperatorCore(OperatorState())
        fleet = world.fleet.instances()
        self._ships = {
            f"{role}-{number}": name
            for role in ("prefill", "decode")
            for number, name in enumerate(n for n, r in fleet if r == role)
        }
        self._names = {ship: name for name, ship in self._ships.items()}
        pools = [
            Pool(Template(role, 1, 0, {}), sum(r == role for _, r in fleet))
            for role in ("prefill", "decode")
        ]
        self.feed(operator_events.FleetApplied(0, 1, pools, idle_sleep_us, level))
        self.feed(operator_events.NodeSeen(0, "all", len(fleet), 0))

    def feed(self, event: Any) -> None:
        """Let the core decide, and carry its decisions to the instances."""
        for effect in self.core.step(event):
            if isinstance(effect, operator_effects.DecideSleep | operator_effects.DecideWake):
                self.world.after(HOP_US, self._decided, effect)

    def start(self) -> None:
        """Begin to hear of work."""
        for router in self.world.routers:
            self._work(router)

    def demanded(self, router: "Router", effect: TellDemand) -> None:
        """Requests wait at a router, and nobody is awake."""
        self.world.after(HOP_US, self._demanded, router.name, effect.held_requests)

    def changed(self, ship: "Ship", effect: lifecycle_effects.Tell) -> None:
        """An instance told of a change in its life."""
        self.world.after(HOP_US, self._changed, self._names[ship.name], str(ship.epoch), effect)

    def _demanded(self, router: str, held: int) -> None:
        self.feed(operator_events.DemandSeen(self.world.now_us, router, held))

    def _changed(self, name: str, epoch: str, effect: lifecycle_effects.Tell) -> None:
        self.feed(
            operator_events.InstanceChanged(
                self.world.now_us, name, effect.state, effect.cause, -1, 0, epoch, effect.change,
                effect.took_us,
            )
        )  # fmt: skip

    def _work(self, router: "Router") -> None:
        state = router.core.state
        requests = len(state.requests) + members.busy_requests(state)
        self.feed(
            operator_events.WorkSeen(
                self.world.now_us, router.name, requests, state.queued_requests,
                state.arrived_requests,
            )
        )  # fmt: skip
        self.world.after(WORK_US, self._work, router)

    def _decided(self, effect: operator_effects.DecideSleep | operator_effects.DecideWake) -> None:
        ship = self.world.ships[self._ships[effect.instance]]
        if ship.life is None:
            return
        now_us = self.world.now_us
        if isinstance(effect, operator_effects.DecideWake):
            ship.life.feed(lifecycle_events.WakeDecided(now_us, effect.turn, effect.reason))
        else:
            ship.life.feed(
                lifecycle_events.SleepDecided(
                    now_us, effect.turn, effect.level, effect.drain_us, effect.reason
                )
            )
