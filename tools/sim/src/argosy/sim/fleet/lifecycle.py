"""An instance's lifecycle in virtual time: the real core; steps take what the profile says."""

from collections.abc import Callable
from typing import Any

from argosy.domain.lifecycle import LifecycleStep
from argosy.instance.lifecycle import effects
from argosy.instance.lifecycle import events as lifecycle_events
from argosy.instance.lifecycle.core import LifecycleCore, LifecycleCoreState
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.ports import LifecycleHost
from argosy.sim.fleet.timers import Timers
from argosy.sim.reports.outcome import SleepRecord

WARM_UP_TOKENS = 8
"""The prompt a waking instance computes before it takes requests: as short as live ones use."""

OnChange = Callable[[LifecycleHost, effects.PublishChange], None]


class SimLifecycle:
    """The lifecycle of one start of an instance. Decisions to sleep and wake come by `feed`."""

    def __init__(
        self,
        instance: LifecycleHost,
        *,
        queue: EventQueue,
        abort_requests: Callable[[str], None],
        on_change: OnChange,
        sleep_records: list[SleepRecord],
    ) -> None:
        self._instance = instance
        self._epoch = instance.epoch
        self._queue = queue
        self._abort_requests = abort_requests
        self._on_change = on_change
        self._sleep_records = sleep_records
        self._core = LifecycleCore(LifecycleCoreState(since_us=queue.now_us))
        self._timers = Timers(queue, self.feed)
        self._version = 0

    @property
    def state(self) -> LifecycleCoreState:
        """The core's state."""
        return self._core.state

    def feed(self, event: Any) -> None:
        """Let the core decide and carry out its effects, unless this start of it is over."""
        if self._instance.epoch != self._epoch or not self._instance.alive:
            return
        for effect in self._core.step(event):
            if not self._timers.handle(effect):
                self._perform(effect)

    def drained(self) -> None:
        """No request occupies the instance any more."""
        if self.state.todo and self.state.todo[0] is LifecycleStep.DRAIN:
            self._end(LifecycleStep.DRAIN, self._version)

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.TakeStep():
                self._begin(LifecycleStep(effect.step), effect.level)
            case effects.AbandonStep():
                self._version += 1
            case effects.AbortWork():
                self._abort_requests(self._instance.name)
            case effects.ResumeWork():
                self._instance.admitting = True
            case effects.PublishChange():
                self._publish(effect)

    def _begin(self, step: LifecycleStep, level: str) -> None:
        self._version += 1
        instance, profile = self._instance, self._instance.profile
        if step is LifecycleStep.DRAIN:
            instance.admitting = False
            if not instance.attempts:
                self._queue.after(0, self._end, step, self._version)
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
        self._queue.after(round(1e3 * took_ms), self._end, step, self._version)

    def _end(self, step: LifecycleStep, version: int) -> None:
        if version != self._version:
            return
        if step is LifecycleStep.FREE:
            self._instance.forget_blocks()
        self.feed(lifecycle_events.LifecycleStepEnded(now_us=self._queue.now_us, step=step))

    def _publish(self, effect: effects.PublishChange) -> None:
        self._instance.lifecycle_changed(effect)
        self._on_change(self._instance, effect)
        if effect.fact in ("InstanceSlept", "InstanceWoke"):
            self._sleep_records.append(
                SleepRecord(
                    name=self._instance.name,
                    fact=effect.fact,
                    at_us=self._queue.now_us,
                    took_us=effect.took_us,
                    steps_us=list(effect.steps_us),
                )
            )
