"""Sleep and wake as people ask for them: `argosy sleep`, `argosy wake`.

They are done at once, in every fleet. The plan leaves such an instance alone for `manual_hold_s`,
and waking for demand comes to it last (see wake_on_demand).
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.planning.idle_sleep import DRAIN_US, serving
from argosy.autoscaler.core.planning.sleep_decisions import decide_sleep, decide_wake
from argosy.autoscaler.core.state import MANUAL, AutoscalerState
from argosy.domain.core import Effect

CAUSE = "somebody asked"


def sleep_requested(state: AutoscalerState, event: events.ManualSleepRequested) -> list[Effect]:
    """Let them sleep, all at once."""
    state.sleep.slept_us = event.now_us
    drain_us = DRAIN_US if event.drain_us < 0 else event.drain_us
    return [
        decide_sleep(
            state,
            name,
            event.now_us,
            reason=CAUSE,
            decided_by=MANUAL,
            drain_us=drain_us,
            level=event.level,
        )
        for name in named(state, event.instances)
    ]


def wake_requested(state: AutoscalerState, event: events.ManualWakeRequested) -> list[Effect]:
    """Let them wake, all at once."""
    return [
        decide_wake(state, name, event.now_us, reason=CAUSE, decided_by=MANUAL)
        for name in named(state, event.instances)
    ]


def named(state: AutoscalerState, names: list[str]) -> list[str]:
    """These, or all where none is named; without any that serves the model no longer."""
    there = serving(state)
    return [name for name in names or sorted(there) if name in there]
