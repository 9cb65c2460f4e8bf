"""The life of one instance, decided one event at a time.

To sleep or to wake is a row of steps; the next begins when the last has ended. A decision that
comes meanwhile is kept, and carried out as soon as it can be: a wake ends a drain or a flush at
once, and lets any later step of a sleep end before it turns round; a sleep lets a wake end. An
older decision (by its turn) never undoes a newer one. A step that fails, or takes longer than
STEP_US (weights: than twice the first load), ends the process: memory half gone is no state
to be in, a new process is.
"""

import msgspec

from argosy.domain.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.domain.lifecycle import SLEEP, STOP, TURNS, WAKE, State, Step, fact_of
from argosy.instance.lifecycle import effects, events

STEP_US = 120_000_000
LOADS = 2
"""Weights may take as long to come back as they took at the start, this many times."""
DRAINED, STUCK = "drained", "stuck"


class LifeState(msgspec.Struct):
    """All that an instance knows of its life."""

    state: State = State.LOADING
    since_us: int = 0
    change: int = 0
    turn: int = 0
    """Of the last decision taken in."""
    wanted: State = State.ACTIVE
    """ACTIVE, SILENT or STOPPED."""
    why: str = ""
    decided_us: int = 0
    """When that was decided."""
    led_turn: int = 0
    """Of the decision that led to the change under way, or the last."""
    led_why: str = "its process started"
    level: str = "dram"
    drain_us: int = 0
    cut: bool = False
    """The drain under way has had its time."""
    todo: list[Step] = []
    """Steps left, the first of which is under way."""
    began_us: int = 0
    """When the change under way, or the last, was decided."""
    step_us: int = 0
    """When the step under way began."""
    steps_us: list[tuple[str, int]] = []
    resident_bytes: int = 0
    load_us: int = 0
    """How long its process took to load."""


class LifeCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: LifeState) -> None:
        self.state = state

    def step(self, event: events.LifeEvent) -> list[Effect]:  # noqa: PLR0911 - one per kind of event
        """Decide on one event."""
        state = self.state
        match event:
            case events.Loaded():
                state.began_us, state.load_us = state.since_us, event.now_us - state.since_us
                return [*self._to(State.ACTIVE, event.now_us), *self._go(event.now_us)]
            case events.SleepDecided() | events.WakeDecided():
                return self._decided(event)
            case events.StopAsked():
                return self._want(State.STOPPED, event.cause, event.now_us)
            case events.Ending():
                return self._end(event.now_us)
            case events.StepEnded():
                return self._step_ended(event)
            case events.MemoryRead():
                state.resident_bytes = event.resident_bytes
                return []
            case TimerFired():
                return self._due(event.key, event.now_us)

    def _decided(self, event: events.SleepDecided | events.WakeDecided) -> list[Effect]:
        state = self.state
        if event.turn <= state.turn or state.wanted is State.STOPPED:
            return []
        state.turn = event.turn
        if isinstance(event, events.WakeDecided):
            return self._want(State.ACTIVE, event.cause, event.now_us)
        state.level, state.drain_us = event.level, event.drain_us
        return self._want(State.SILENT, event.cause, event.now_us)

    def _want(self, wanted: State, why: str, now_us: int) -> list[Effect]:
        state = self.state
        state.wanted, state.why, state.decided_us = wanted, why, now_us
        if not state.todo:
            return self._go(now_us)
        if state.state is not State.DRAINING or state.todo[0] not in TURNS:
            return []
        if wanted is State.ACTIVE:
            step = state.todo.pop(0)
            state.todo = []
            found: list[Effect] = [effects.AbandonStep(step), *timers_off()]
            self._led(now_us)
            return [*found, *self._to(State.ACTIVE, now_us), effects.TakeWork()]
        # To sleep or to stop begin alike, so what is under way goes on.
        state.todo = [s for s in (SLEEP if wanted is State.SILENT else STOP) if s in self._ahead()]
        if wanted is State.SILENT and state.todo[0] is Step.DRAIN and not state.cut:
            return [SetTimer(DRAINED, now_us + state.drain_us)]
        return []

    def _ahead(self) -> tuple[Step, ...]:
        """The step under way, and all that could come after it."""
        return SLEEP[SLEEP.index(self.state.todo[0]) :]

    def _go(self, now_us: int) -> list[Effect]:
        """Begin the change that is wanted, if any is."""
        state = self.state
        match state.state, state.wanted:
            case State.ACTIVE, State.SILENT | State.STOPPED:
                steps = SLEEP if state.wanted is State.SILENT else STOP
                found = self._begin(State.DRAINING, steps, now_us)
                if state.wanted is State.SILENT:
                    found.append(SetTimer(DRAINED, now_us + state.drain_us))
                return found
            case State.SILENT, State.ACTIVE:
                return self._begin(State.WAKING, WAKE, now_us)
            case State.SILENT, State.STOPPED:
                self._led(state.decided_us)
                return self._to(State.STOPPED, now_us)
        if state.state in (State.LOADING, State.STOPPED) and state.wanted is State.STOPPED:
            return [effects.ReportStopped()]
        return []

    def _begin(self, towards: State, steps: tuple[Step, ...], now_us: int) -> list[Effect]:
        state = self.state
        state.cut = False
        self._led(state.decided_us)
        state.steps_us = []
        found = self._to(towards, now_us)
        state.todo = list(steps)
        return [*found, *self._take(now_us)]

    def _led(self, began_us: int) -> None:
        """The newest decision is what leads to the next change."""
        state = self.state
        state.led_turn, state.led_why, state.began_us = state.turn, state.why, began_us

    def _take(self, now_us: int) -> list[Effect]:
        """The first step left to do."""
        state = self.state
        step = state.todo[0]
        state.step_us = now_us
        # A drain has a limit of its own.
        stuck = [] if step is Step.DRAIN else [SetTimer(STUCK, now_us + self._limit_us(step))]
        return [effects.TakeStep(step, state.level), *stuck]

    def _limit_us(self, step: Step) -> int:
        return max(STEP_US, LOADS * self.state.load_us) if step is Step.LOAD else STEP_US

    def _step_ended(self, event: events.StepEnded) -> list[Effect]:
        state = self.state
        if not state.todo or state.todo[0] != event.step:
            return []
        if event.trouble:
            return [effects.GiveUp(f"{event.step} failed: {event.trouble}")]
        state.steps_us.append((state.todo.pop(0), event.now_us - state.step_us))
        found = timers_off()
        if state.todo:
            return [*found, *self._take(event.now_us)]
        if state.state is State.WAKING:
            found += [*self._to(State.ACTIVE, event.now_us), effects.TakeWork()]
        elif event.step == STOP[-1]:
            return [*found, *self._to(State.STOPPED, event.now_us)]
        else:
            found += self._to(State.SILENT, event.now_us)
        return [*found, *self._go(event.now_us)]

    def _end(self, now_us: int) -> list[Effect]:
        state = self.state
        state.todo, state.wanted = [], State.STOPPED
        state.why = state.why or "its process ends"
        self._led(now_us)
        found = timers_off()
        if state.state is State.ACTIVE:
            found += self._to(State.DRAINING, now_us)
        if state.state in (State.DRAINING, State.SILENT, State.WAKING):
            found += self._to(State.STOPPED, now_us)
        return found

    def _due(self, key: str, now_us: int) -> list[Effect]:
        state = self.state
        if key == STUCK and state.todo:
            limit_s = self._limit_us(state.todo[0]) // 1_000_000
            return [effects.GiveUp(f"{state.todo[0]} has not ended in {limit_s} s")]
        if key == DRAINED and state.todo and state.todo[0] is Step.DRAIN:
            state.cut = True
            return [effects.CutWork(), SetTimer(STUCK, now_us + STEP_US)]
        return []

    def _to(self, after: State, now_us: int) -> list[Effect]:
        """Change the state: the only place where that happens."""
        state = self.state
        fact = fact_of(state.state, after)
        state.state, state.since_us = after, now_us
        state.change += 1
        told = effects.Tell(
            fact, after, state.change, state.led_why, state.led_turn, now_us - state.began_us,
            state.level, state.steps_us,
            state.resident_bytes if after is State.SILENT else 0,
        )  # fmt: skip
        return [told, effects.ReportStopped()] if after is State.STOPPED else [told]


def timers_off() -> list[Effect]:
    """No step is under way any more."""
    return [CancelTimer(DRAINED), CancelTimer(STUCK)]


SPEC = CoreSpec("life", events.LifeEvent, LifeState, LifeCore)
