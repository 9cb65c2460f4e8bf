"""An instance's life in virtual time: its real core; steps take as long as the profile says."""

from typing import TYPE_CHECKING, Any

from argosy.domain.lifecycle import LifecycleStep
from argosy.instance.lifecycle import effects
from argosy.instance.lifecycle import events as lifecycle_events
from argosy.instance.lifecycle.core import LifecycleCore, LifecycleCoreState
from argosy.router.core import events as router_events
from argosy.sim.fleet.timers import Timers
from argosy.sim.reports.outcome import SleepRecord

if TYPE_CHECKING:
    from argosy.sim.fleet.instance import SimInstance

WARM_UP_TOKENS = 8


class SimLifecycle:
    """See the module. Told of decisions by `feed`."""

    def __init__(self, instance: "SimInstance") -> None:
        self.instance = instance
        self.simulation = instance.simulation
        self.core = LifecycleCore(LifecycleCoreState(since_us=self.simulation.now_us))
        self._timers = Timers(self.simulation, self.feed)
        self._version = 0

    @property
    def state(self) -> LifecycleCoreState:
        """The core's."""
        return self.core.state

    def feed(self, event: Any) -> None:
        """Let the core decide, and do what it says, as long as this life lasts."""
        if self.instance.life is not self or not self.instance.alive:
            return
        for effect in self.core.step(event):
            if not self._timers.take(effect):
                self._perform(effect)

    def idle(self) -> None:
        """Nothing is left to do for anybody."""
        if self.state.todo and self.state.todo[0] is LifecycleStep.DRAIN:
            self._end(LifecycleStep.DRAIN, self._version)

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.TakeStep():
                self._take(LifecycleStep(effect.step), effect.level)
            case effects.AbandonStep():
                self._version += 1
            case effects.AbortWork():
                self.simulation.cut(self.instance.name)
            case effects.ResumeWork():
                self.instance.holding = False
            case effects.PublishChange():
                self._tell(effect)

    def _take(self, step: LifecycleStep, level: str) -> None:
        self._version += 1
        instance, profile = self.instance, self.instance.profile
        if step is LifecycleStep.DRAIN:
            instance.holding = True
            if not instance.work:
                self.simulation.after(0, self._end, step, self._version)
            return
        took_ms = {
            LifecycleStep.FLUSH: profile.flush_ms,
            LifecycleStep.WITHDRAW: profile.withdraw_ms,
            LifecycleStep.FREE: profile.free_ms(level),
            LifecycleStep.LOAD: profile.take_ms(level),
            LifecycleStep.REGISTER: profile.register_ms,
            LifecycleStep.WARM_UP: profile.prefill_step_ms(WARM_UP_TOKENS)
            + profile.decode_step_ms(0, 1),
        }[step]
        self.simulation.after(round(1e3 * took_ms), self._end, step, self._version)

    def _end(self, step: LifecycleStep, version: int) -> None:
        if version != self._version:
            return
        if step is LifecycleStep.FREE:
            self.instance.forget_blocks()
        self.feed(lifecycle_events.LifecycleStepEnded(now_us=self.simulation.now_us, step=step))

    def _tell(self, effect: effects.PublishChange) -> None:
        instance = self.instance
        if instance.told_of_life(effect.change):
            name, epoch, change, cause = (
                instance.name,
                str(instance.epoch),
                effect.change,
                effect.cause,
            )
            self.simulation.tell(
                lambda now_us: router_events.InstanceLifecycleChanged(
                    now_us=now_us,
                    instance=name,
                    epoch=epoch,
                    change=change,
                    state=effect.state,
                    cause=cause,
                )
            )
        assert self.simulation.autoscaler is not None
        self.simulation.autoscaler.changed(instance, effect)
        if effect.fact in ("InstanceSlept", "InstanceWoke"):
            self.simulation.sleep_records.append(
                SleepRecord(
                    instance.name,
                    effect.fact,
                    self.simulation.now_us,
                    effect.took_us,
                    list(effect.steps_us),
                )
            )
