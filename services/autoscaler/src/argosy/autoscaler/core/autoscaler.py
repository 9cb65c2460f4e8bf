"""How many instances of each role there are to be, and which of them sleep.

On every tick, and at once when much more comes than was expected, a decision is made by four calls
in a row: observe (core/observe), expect (planning/expected_demand), plan (planning/planner) and act
(planning/actions). Each decision is whole: it says how many there are to be, so that a later one
replaces it, and it carries a generation that only grows.
"""

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.capacity import baseline
from argosy.autoscaler.core.forecast.forecaster import Forecaster
from argosy.autoscaler.core.observe import measure, members, observation
from argosy.autoscaler.core.observe.observation import observe
from argosy.autoscaler.core.planning import expected_demand, feedback, sleep_decisions, sleep_rules
from argosy.autoscaler.core.planning.actions import act
from argosy.autoscaler.core.planning.expected_demand import expect
from argosy.autoscaler.core.planning.planner import Planner
from argosy.autoscaler.core.state import AutoscalerState
from argosy.domain.core import CoreSpec, Effect, SetTimer, TimerFired

TICK = "tick"
SEASONS = 3
"""A forecast reaches this multiple of the time until the next fit, in case that fails."""
BURST_GAP_US = 1_000_000
"""Plans made for bursts are at least this far apart."""


class AutoscalerCore:
    """See the module. `state` holds all it knows; the planner only remembers results."""

    def __init__(self, state: AutoscalerState) -> None:
        self.state = state
        self._planner = Planner()

    def step(self, event: events.AutoscalerEvent) -> list[Effect]:
        """Decide on one event."""
        state = self.state
        match event:
            case TimerFired():
                return self._tick(event.now_us)
            case events.ScalingApplied():
                return self._applied(event)
            case events.PlansChanged():
                state.windows = event.windows
            case events.TrafficSeen():
                measure.traffic_seen(state, event)
                self._late(event.router, event.epoch, event)
                return self._burst(event.now_us) + sleep_rules.traffic_seen(state, event.now_us)
            case events.LoadSeen():
                self._load(event)
            case events.MemberJoined():
                members.joined(state, event)
                baseline.joined(state, event)
            case events.MemberDecided():
                members.decided(state, event)
            case events.MemberChanged():
                members.changed(state, event)
            case events.NodeSeen():
                state.free_bytes[event.node] = event.free_bytes
            case events.SleepDecisionRecalled():
                sleep_decisions.recalled(state, event)
            case events.SlotRecalled() | events.SeasonFitted() | events.ScaleRecalled():
                self._remember(event)
            case _:
                return sleep_rules.step(state, event)
        return []

    def _load(self, event: events.LoadSeen) -> None:
        measure.load_seen(self.state, event)
        self._late(event.instance, event.epoch, event)
        if event.steps and (member := self.state.members.get(event.instance)):
            baseline.steps_seen(self.state, member, event)

    def _remember(
        self, event: events.SlotRecalled | events.SeasonFitted | events.ScaleRecalled
    ) -> None:
        """What was known before, or was worked out elsewhere."""
        state = self.state
        if isinstance(event, events.ScaleRecalled):
            self._recalled(event)
            return
        slot = event.start_us // state.limits.slot_us
        if isinstance(event, events.SeasonFitted):
            Forecaster(state.forecast).take_season(slot, event.rates)
        elif measure.recalled(state, event):
            Forecaster(state.forecast).observe(slot, event.requests / event.seconds)

    def _late(self, source: str, epoch: str, event: events.LoadSeen | events.TrafficSeen) -> None:
        state = self.state
        relays = isinstance(event, events.TrafficSeen)
        state.relayed = state.relayed or (relays and bool(event.ttft_buckets))
        if relays or not state.relayed:
            feedback.late_seen(state, f"{source} {epoch}", "ttft", event.ttft_buckets)
        if isinstance(event, events.LoadSeen):
            feedback.late_seen(state, f"{source} {epoch}", "tpot", event.tpot_buckets)

    def _applied(self, event: events.ScalingApplied) -> list[Effect]:
        before = self.state.scaling
        if before is not None and event.generation <= before.generation:
            return []
        self.state.scaling = event
        there = self.state.members.values()
        if not there or any(member.state != "silent" for member in there):
            # A fleet that is all asleep, as after a restart, stays so until something is asked.
            self.state.busy_us = max(self.state.busy_us, event.now_us)
        return [SetTimer(key=TICK, at_us=event.now_us)]

    def _recalled(self, event: events.ScaleRecalled) -> None:
        decided = self.state.decided
        if event.generation > decided.generation:
            for role, awake in event.awake.items():
                if awake > decided.awake.get(role, awake):
                    decided.raised_us[role] = min(event.at_us, event.now_us)
            decided.generation, decided.at_us = event.generation, min(event.at_us, event.now_us)
            decided.awake, decided.exist = dict(event.awake), dict(event.exist)

    def _burst(self, now_us: int) -> list[Effect]:
        """Plan at once if far more comes than the next slot was expected to bring."""
        state = self.state
        if state.scaling is None or now_us - state.planned_us < BURST_GAP_US:
            return []
        expected = Forecaster(state.forecast).path(1)
        rate = measure.recent_rate(state, now_us)
        upper = expected[0].upper if expected else 0.0
        return self._decide(now_us) if expected_demand.beyond_chance(rate, upper) else []

    def _tick(self, now_us: int) -> list[Effect]:
        state = self.state
        found: list[Effect] = [SetTimer(key=TICK, at_us=now_us + state.limits.tick_us)]
        observation.ticked(state, now_us)
        for slot in measure.close_slots(state, now_us):
            index = slot.start_us // state.limits.slot_us
            Forecaster(state.forecast).observe(index, slot.requests / slot.seconds)
            feedback.slot_ended(state, slot.requests / slot.seconds)
            found.append(slot)
        plans = state.scaling is not None and bool(state.scaling.mode)
        if plans and now_us - state.fitted_us >= state.limits.season_us:
            state.fitted_us = now_us
            limits = state.limits
            found.append(
                effects.FitSeason(
                    slot_us=limits.slot_us, slots=SEASONS * limits.season_us // limits.slot_us
                )
            )
        return found + self._decide(now_us)

    def _decide(self, now_us: int) -> list[Effect]:
        """Observe, expect, plan, act."""
        state = self.state
        state.planned_us = now_us
        if state.scaling is None or not state.scaling.mode or not state.members:
            return []  # The fleet file asks for no plan, or there is nothing to plan for.
        observed = observe(state, now_us)
        expected = expect(state, observed)
        planned = self._planner.plan(state, observed, expected)
        return act(state, observed, expected, planned)


SPEC = CoreSpec("autoscaler", events.AutoscalerEvent, AutoscalerState, AutoscalerCore)
