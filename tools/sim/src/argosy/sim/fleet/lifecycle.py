"""An instance's life in virtual time: its real core; steps take as long as the profile says."""

from typing import TYPE_CHECKING, Any

from argosy.domain.lifecycle import State, Step
from argosy.instance.lifecycle import effects
from argosy.instance.lifecycle import events as lifecycle_events
from argosy.instance.lifecycle.core import LifeCore, LifeState
from argosy.router.core import events as router_events
from argosy.sim.fleet.timers import Timers
from argosy.sim.reports.outcome import Rested

if TYPE_CHECKING:
    from argosy.sim.fleet.instance import Ship

WARM_UP_TOKENS = 8


class SimLife:
    """See the module. Told of decisions by `feed`."""

    def __init__(self, ship: "Ship") -> None:
        self.ship = ship
        self.world = ship.world
        self.core = LifeCore(LifeState(since_us=self.world.now_us))
        self._timers = Timers(self.world, self.feed)
        self._version = 0

    @property
    def state(self) -> LifeState:
        """The core's."""
        return self.core.state

    def feed(self, event: Any) -> None:
        """Let the core decide, and do what it says, as long as this life lasts."""
        if self.ship.life is not self or not self.ship.alive:
            return
        for effect in self.core.step(event):
            if not self._timers.take(effect):
                self._perform(effect)

    def idle(self) -> None:
        """Nothing is left to do for anybody."""
        if self.state.todo and self.state.todo[0] is Step.DRAIN:
            self._end(Step.DRAIN, self._version)

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.TakeStep():
                self._take(Step(effect.step), effect.level)
            case effects.AbandonStep():
                self._version += 1
            case effects.CutWork():
                self.world.cut(self.ship.name)
            case effects.TakeWork():
                self.ship.holding = False
            case effects.Tell():
                self._tell(effect)

    def _take(self, step: Step, level: str) -> None:
        self._version += 1
        ship, profile = self.ship, self.ship.profile
        if step is Step.DRAIN:
            ship.holding = True
            if not ship.work:
                self.world.after(0, self._end, step, self._version)
            return
        took_ms = {
            Step.FLUSH: profile.flush_ms, Step.WITHDRAW: profile.withdraw_ms,
            Step.FREE: profile.free_ms(level),
            Step.LOAD: profile.take_ms(level), Step.REGISTER: profile.register_ms,
            Step.WARM_UP: profile.prefill_pass_ms(WARM_UP_TOKENS) + profile.decode_pass_ms(0, 1),
        }[step]  # fmt: skip
        self.world.after(round(1e3 * took_ms), self._end, step, self._version)

    def _end(self, step: Step, version: int) -> None:
        if version != self._version:
            return
        if step is Step.FREE:
            self.ship.forget_blocks()
        self.feed(lifecycle_events.StepEnded(self.world.now_us, step))

    def _tell(self, effect: effects.Tell) -> None:
        ship, state = self.ship, State(effect.state)
        if ship.told_of_life(effect.change):
            resting = "" if state is State.ACTIVE else effect.state
            name, epoch, change, cause = ship.name, str(ship.epoch), effect.change, effect.cause
            self.world.tell(
                lambda now_us: router_events.InstanceRested(
                    now_us, name, epoch, change, resting, cause
                )
            )
        assert self.world.operator is not None
        self.world.operator.changed(ship, effect)
        if effect.fact in ("InstanceSlept", "InstanceWoke"):
            self.world.rested.append(
                Rested(
                    ship.name, effect.fact, self.world.now_us, effect.took_us,
                    list(effect.steps_us),
                )
            )  # fmt: skip
