"""Which instances sleep and wake where no plan says so: idleness, demand, and people.

Which of the two decides is said by `plan_decides` alone:

- The plan decides where the fleet file asks for a plan that is acted on (`mode: act`). Then idle
  instances are the plan's business, and so is waking more of them.
- The rules decide everywhere else: where the file has no `scaling`, only `idleSleepAfter`, or
  `mode: advise`. Idle fleets sleep (idle_sleep) and wake on demand (wake_on_demand).

Two things hold in both cases, because they cannot wait for the next plan: requests for a model of
which no instance is awake wake one at once, and what a person asks for is done at once.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.planning import idle_sleep, manual_sleep, sleep_decisions
from argosy.autoscaler.core.planning import wake_on_demand as demand
from argosy.autoscaler.core.state import AutoscalerState
from argosy.domain.core import Effect

REPORT_VALID_US = 2_000_000
"""A router that has not reported for as long says nothing about now: it reports every 250 ms."""


def plan_decides(state: AutoscalerState) -> bool:
    """Whether the plan decides which instances sleep, and not the rules (see the module)."""
    return state.scaling is not None and state.scaling.mode == "act"


def step(
    state: AutoscalerState,
    event: events.DemandSeen
    | events.ManualSleepRequested
    | events.ManualWakeRequested
    | events.SleepDecisionRefused,
) -> list[Effect]:
    """Decide on one event."""
    match event:
        case events.DemandSeen():
            return demand.demand_seen(state, event)
        case events.ManualSleepRequested():
            return manual_sleep.sleep_requested(state, event)
        case events.ManualWakeRequested():
            return manual_sleep.wake_requested(state, event)
        case events.SleepDecisionRefused():
            return sleep_decisions.refused(state, event)


def traffic_seen(state: AutoscalerState, now_us: int) -> list[Effect]:
    """A router reported: wake more instances while requests wait, or let the idle fleet sleep.

    Without a router's report nothing is put to sleep.
    """
    if plan_decides(state):
        return []
    reports = [r for r in state.routers.values() if now_us - r.heard_us <= REPORT_VALID_US]
    if any(report.queued for report in reports):
        return demand.wake_more(state, now_us)
    return idle_sleep.sleep_if_idle(state, now_us) if reports else []
