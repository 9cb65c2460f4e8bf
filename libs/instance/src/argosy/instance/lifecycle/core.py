"""The lifecycle of one instance, decided one event at a time.

To sleep or to wake is a sequence of steps; each begins when the one before has ended. A decision
that comes meanwhile is kept, and carried out as soon as possible: a decision to wake ends a drain
or a flush at once, but a later step of a sleep ends first; a decision to sleep lets a wake end. An
older decision (by its sequence) never undoes a newer one. A step that fails, or takes longer than
STEP_US (loading weights: than twice the first load), ends the process: with half of its memory
freed the instance is in no known state, and a new process is.
"""

import msgspec

from argosy.domain.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.domain.lifecycle import SLEEP, STOP, TURNS, WAKE, LifecycleState, LifecycleStep, fact_of
from argosy.instance.lifecycle import effects, events

STEP_US = 120_000_000
"""A step that takes longer hangs: two minutes are some ten times what freeing takes."""
LOADS = 2
"""Weights may take as long to come back as they took at the start, this many times."""
DRAINED, STUCK = "drained", "stuck"


class LifecycleCoreState(msgspec.Struct):
    """All that an instance knows of its lifecycle."""

    state: LifecycleState = LifecycleState.LOADING
    since_us: int = 0
    change: int = 0
    decision_sequence: int = 0
    """The sequence of the newest decision."""
    wanted: LifecycleState = LifecycleState.ACTIVE
    """What the newest decision wants: ACTIVE, SILENT or STOPPED."""
    why: str = ""
    decided_us: int = 0
    """When the newest decision came."""
    led_sequence: int = 0
    """The sequence of the decision that led to the change under way, or to the last one."""
    led_why: str = "its process started"
    level: str = "dram"
    drain_us: int = 0
    aborted: bool = False
    """Whether the drain under way has had its time."""
    todo: list[LifecycleStep] = []
    """The steps that are left; the first one is under way."""
    began_us: int = 0
    """When the change under way, or the last one, was decided."""
    step_us: int = 0
    """When the step under way began."""
    steps_us: list[tuple[str, int]] = []
    resident_bytes: int = 0
    load_us: int = 0
    """How long the process took to load."""


class LifecycleCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: LifecycleCoreState) -> None:
        self.state = state

    def step(self, event: events.LifecycleEvent) -> list[Effect]:  # noqa: PLR0911 - one per kind of event
        """Decide on one event."""
        state = self.state
        match event:
            case events.Loaded():
                state.began_us, state.load_us = state.since_us, event.now_us - state.since_us
                return [*self._to(LifecycleState.ACTIVE, event.now_us), *self._go(event.now_us)]
            case events.SleepRequested() | events.WakeRequested():
                return self._decided(event)
            case events.StopRequested():
                return self._want(LifecycleState.STOPPED, event.cause, event.now_us)
            case events.ProcessEnding():
                return self._end(event.now_us)
            case events.LifecycleStepEnded():
                return self._step_ended(event)
            case events.MemoryRead():
                state.resident_bytes = event.resident_bytes
                return []
            case TimerFired():
                return self._due(event.key, event.now_us)

    def _decided(self, event: events.SleepRequested | events.WakeRequested) -> list[Effect]:
        state = self.state
        if (
            event.decision_sequence <= state.decision_sequence
            or state.wanted is LifecycleState.STOPPED
        ):
            return []
        state.decision_sequence = event.decision_sequence
        if isinstance(event, events.WakeRequested):
            return self._want(LifecycleState.ACTIVE, event.cause, event.now_us)
        state.level, state.drain_us = event.level, event.drain_us
        return self._want(LifecycleState.SILENT, event.cause, event.now_us)

    def _want(self, wanted: LifecycleState, why: str, now_us: int) -> list[Effect]:
        state = self.state
        state.wanted, state.why, state.decided_us = wanted, why, now_us
        if not state.todo:
            return self._go(now_us)
        if state.state is not LifecycleState.DRAINING or state.todo[0] not in TURNS:
            return []
        if wanted is LifecycleState.ACTIVE:
            step = state.todo.pop(0)
            state.todo = []
            found: list[Effect] = [effects.AbandonStep(step=step), *timers_off()]
            self._led(now_us)
            return [*found, *self._to(LifecycleState.ACTIVE, now_us), effects.ResumeWork()]
        # To sleep or to stop begin alike, so what is under way goes on.
        state.todo = [
            s for s in (SLEEP if wanted is LifecycleState.SILENT else STOP) if s in self._ahead()
        ]
        if (
            wanted is LifecycleState.SILENT
            and state.todo[0] is LifecycleStep.DRAIN
            and not state.aborted
        ):
            return [SetTimer(key=DRAINED, at_us=now_us + state.drain_us)]
        return []

    def _ahead(self) -> tuple[LifecycleStep, ...]:
        """The step under way, and all that could come after it."""
        return SLEEP[SLEEP.index(self.state.todo[0]) :]

    def _go(self, now_us: int) -> list[Effect]:
        """Begin the change that is wanted, if any is."""
        state = self.state
        match state.state, state.wanted:
            case LifecycleState.ACTIVE, LifecycleState.SILENT | LifecycleState.STOPPED:
                steps = SLEEP if state.wanted is LifecycleState.SILENT else STOP
                found = self._begin(LifecycleState.DRAINING, steps, now_us)
                if state.wanted is LifecycleState.SILENT:
                    found.append(SetTimer(key=DRAINED, at_us=now_us + state.drain_us))
                return found
            case LifecycleState.SILENT, LifecycleState.ACTIVE:
                return self._begin(LifecycleState.WAKING, WAKE, now_us)
            case LifecycleState.SILENT, LifecycleState.STOPPED:
                self._led(state.decided_us)
                return self._to(LifecycleState.STOPPED, now_us)
        if (
            state.state in (LifecycleState.LOADING, LifecycleState.STOPPED)
            and state.wanted is LifecycleState.STOPPED
        ):
            return [effects.ReportStopped()]
        return []

    def _begin(
        self, towards: LifecycleState, steps: tuple[LifecycleStep, ...], now_us: int
    ) -> list[Effect]:
        state = self.state
        state.aborted = False
        self._led(state.decided_us)
        state.steps_us = []
        found = self._to(towards, now_us)
        state.todo = list(steps)
        return [*found, *self._take(now_us)]

    def _led(self, began_us: int) -> None:
        """Take the newest decision as the cause of the next change."""
        state = self.state
        state.led_sequence, state.led_why, state.began_us = (
            state.decision_sequence,
            state.why,
            began_us,
        )

    def _take(self, now_us: int) -> list[Effect]:
        """Begin the first of the steps that are left."""
        state = self.state
        step = state.todo[0]
        state.step_us = now_us
        # A drain has a limit of its own.
        stuck = (
            []
            if step is LifecycleStep.DRAIN
            else [SetTimer(key=STUCK, at_us=now_us + self._limit_us(step))]
        )
        return [effects.TakeStep(step=step, level=state.level), *stuck]

    def _limit_us(self, step: LifecycleStep) -> int:
        return max(STEP_US, LOADS * self.state.load_us) if step is LifecycleStep.LOAD else STEP_US

    def _step_ended(self, event: events.LifecycleStepEnded) -> list[Effect]:
        state = self.state
        if not state.todo or state.todo[0] != event.step:
            return []
        if event.trouble:
            return [effects.GiveUp(reason=f"{event.step} failed: {event.trouble}")]
        state.steps_us.append((state.todo.pop(0), event.now_us - state.step_us))
        found = timers_off()
        if state.todo:
            return [*found, *self._take(event.now_us)]
        if state.state is LifecycleState.WAKING:
            found += [*self._to(LifecycleState.ACTIVE, event.now_us), effects.ResumeWork()]
        elif event.step == STOP[-1]:
            return [*found, *self._to(LifecycleState.STOPPED, event.now_us)]
        else:
            found += self._to(LifecycleState.SILENT, event.now_us)
        return [*found, *self._go(event.now_us)]

    def _end(self, now_us: int) -> list[Effect]:
        state = self.state
        state.todo, state.wanted = [], LifecycleState.STOPPED
        state.why = state.why or "its process ends"
        self._led(now_us)
        found = timers_off()
        if state.state is LifecycleState.ACTIVE:
            found += self._to(LifecycleState.DRAINING, now_us)
        if state.state in (LifecycleState.DRAINING, LifecycleState.SILENT, LifecycleState.WAKING):
            found += self._to(LifecycleState.STOPPED, now_us)
        return found

    def _due(self, key: str, now_us: int) -> list[Effect]:
        state = self.state
        if key == STUCK and state.todo:
            limit_s = self._limit_us(state.todo[0]) // 1_000_000
            return [effects.GiveUp(reason=f"{state.todo[0]} has not ended in {limit_s} s")]
        if key == DRAINED and state.todo and state.todo[0] is LifecycleStep.DRAIN:
            state.aborted = True
            return [effects.AbortWork(), SetTimer(key=STUCK, at_us=now_us + STEP_US)]
        return []

    def _to(self, after: LifecycleState, now_us: int) -> list[Effect]:
        """Change the state: the only place where that happens."""
        state = self.state
        fact = fact_of(state.state, after)
        state.state, state.since_us = after, now_us
        state.change += 1
        publish = effects.PublishChange(
            fact=fact,
            state=after,
            change=state.change,
            cause=state.led_why,
            decision_sequence=state.led_sequence,
            took_us=now_us - state.began_us,
            level=state.level,
            steps_us=state.steps_us,
            resident_bytes=state.resident_bytes if after is LifecycleState.SILENT else 0,
        )
        return [publish, effects.ReportStopped()] if after is LifecycleState.STOPPED else [publish]


def timers_off() -> list[Effect]:
    """Cancel the timers of the step that was under way."""
    return [CancelTimer(key=DRAINED), CancelTimer(key=STUCK)]


SPEC = CoreSpec("life", events.LifecycleEvent, LifecycleCoreState, LifecycleCore)
