"""How many instances of each role there are to be, and who of them sleeps.

On every tick, and at once when far more comes than was expected: what will be asked (ahead), what
must be kept to (bounds), what each count would cost (costs), the cheapest way (plan), what of it is
to be done now (targets), and by whom (acting). Each decision is whole: it says how many there are
to be, so that a later one replaces it, and it carries a generation that only grows.
"""

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.capacity import baseline
from argosy.autoscaler.core.forecast.forecaster import Forecaster
from argosy.autoscaler.core.observe import measure, members
from argosy.autoscaler.core.planning import (
    actions,
    bounds,
    expected_demand,
    explain,
    feedback,
    guard,
)
from argosy.autoscaler.core.planning.costs import CostContext, RoleCosts
from argosy.autoscaler.core.planning.targets import Target, plan, targets, within_budget
from argosy.autoscaler.core.state import AutoscalerState, Baseline, SloCorrection
from argosy.domain.core import CoreSpec, Effect, SetTimer, TimerFired

TICK = "tick"
SEASONS = 3
"""So many times as far ahead as until the next fit, in case that fails."""
BURST_GAP_US = 1_000_000
"""Plans made for bursts are at least this far apart."""


class AutoscalerCore:
    """See the module. `state` holds all it knows; the cost tables are only remembered results."""

    def __init__(self, state: AutoscalerState) -> None:
        self.state = state
        self._costs: dict[str, RoleCosts] = {}

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
                return self._burst(event.now_us)
            case events.LoadSeen():
                self._load(event)
            case events.MemberJoined():
                members.joined(state, event)
                baseline.joined(state, event)
            case events.SlotRecalled() | events.SeasonFitted() | events.ScaleRecalled():
                self._remember(event)
            case _:
                members.step(state, event)
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
            # What is all asleep, as after a restart, stays so until something is asked.
            self.state.asked_us = max(self.state.asked_us, event.now_us)
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
        guard.ticked(state, now_us)
        for slot in measure.close_slots(state, now_us):
            index = slot.start_us // state.limits.slot_us
            Forecaster(state.forecast).observe(index, slot.requests / slot.seconds)
            feedback.slot_ended(state, slot.requests / slot.seconds)
            found.append(slot)
        if now_us - state.fitted_us >= state.limits.season_us:
            state.fitted_us = now_us
            limits = state.limits
            found.append(
                effects.FitSeason(
                    slot_us=limits.slot_us, slots=SEASONS * limits.season_us // limits.slot_us
                )
            )
        return found + self._decide(now_us)

    def _decide(self, now_us: int) -> list[Effect]:
        """Plan, and publish what is to change."""
        state = self.state
        state.planned_us = now_us
        scaling = state.scaling
        if scaling is None or not scaling.mode or not state.members:
            return []
        kept = bounds.fleet_bounds(state, now_us)
        seen = expected_demand.expect(state, now_us)
        if guard.signals(state, now_us) != guard.FRESH:
            wanted = guard.without_news(state, kept, now_us)
            if wanted is None:
                return []
            return self._publish(within_budget(wanted, kept), None, kept, seen, now_us)
        if any(_known(state, role) is None for role in events.ROLES):
            return []  # Nobody has told yet what an instance can do.
        costs = {role: self._costs_of(role, seen) for role in events.ROLES}
        path = plan(kept, costs)
        return self._publish(targets(state, path, kept, now_us), path, kept, seen, now_us)

    def _costs_of(self, role: str, seen: expected_demand.ExpectedDemand) -> list[list[float]]:
        """By slot and count; worked out anew only when what they follow from has changed."""
        state = self.state
        scaling = state.scaling
        assert scaling is not None
        high = scaling.pools[role].high
        if not high:
            return [[0.0]] * len(seen.rates)
        base = _known(state, role)
        assert base is not None
        assert base.timing is not None
        alone = role == "decode" and not scaling.pools["prefill"].high
        context = CostContext(
            "both" if alone else role,
            seen.mix,
            base.timing,
            base.machine,
            scaling.slo,
            state.limits,
            high,
        )
        if role not in self._costs or self._costs[role].context != context:
            self._costs[role] = RoleCosts(context)
        factor = state.pace.get(role, SloCorrection()).factor
        rates = expected_demand.in_first(seen.rates, seen.extra[role], state.limits.slot_us)
        return self._costs[role].of_slots([factor * rate for rate in rates], seen.sigmas)

    def _publish(
        self,
        wanted: dict[str, Target],
        path: explain.MaybePath,
        kept: bounds.FleetBounds,
        seen: expected_demand.ExpectedDemand,
        now_us: int,
    ) -> list[Effect]:
        """The decision, and what each instance is to do for it; nothing if all is so already."""
        state = self.state
        room = actions.room_left(state, kept.together_high[0])
        chosen = actions.pools(state, wanted, now_us, room)
        done = not any(actions.changes(pool) for pool in chosen)
        # What was decided and is not done yet is decided again once a slot, not at every tick.
        waits = now_us - state.decided.at_us < state.limits.slot_us
        if all(actions.told(state, pool) for pool in chosen) and (done or waits):
            return []
        assert state.scaling is not None
        acts = state.scaling.mode == "act"
        if not acts and (done or actions.advised(state, chosen)):
            return []
        state.decided.generation += 1
        state.decided.at_us = now_us
        decision = explain.decision(state, chosen, path, kept, seen, now_us)
        actions.note(state, chosen, now_us, acts)
        found: list[Effect] = [decision]
        return found + (self._rests(chosen, decision, now_us) if acts else [])

    def _rests(
        self, chosen: list[effects.PoolDecision], decision: effects.DecideScale, now_us: int
    ) -> list[Effect]:
        """Tell each instance that is to wake or to sleep."""
        state, found = self.state, list[Effect]()
        assert state.scaling is not None
        for pool in chosen:
            for name in (*pool.wake, *pool.sleep):
                member, wake = state.members[name], name in pool.wake
                member.turn, member.rests = max(now_us, member.turn + 1), not wake
                why, id_, generation = decision.reason, decision.id, decision.generation
                if wake:
                    found.append(
                        effects.DecideWake(
                            instance=name,
                            node=member.node,
                            turn=member.turn,
                            reason=why,
                            decision=id_,
                            generation=generation,
                        )
                    )
                else:
                    found.append(
                        effects.DecideSleep(
                            instance=name,
                            node=member.node,
                            turn=member.turn,
                            level=state.scaling.sleep_level,
                            drain_us=actions.DRAIN_US,
                            reason=why,
                            decision=id_,
                            generation=generation,
                        )
                    )
        return found


def _known(state: AutoscalerState, role: str) -> Baseline | None:
    """What an instance of the role can do; of one that never was, what one of the other can."""
    for name in (role, *events.ROLES):
        base = state.baselines.get(name)
        if base is not None and base.timing is not None:
            return base
    return None


SPEC = CoreSpec("autoscaler", events.AutoscalerEvent, AutoscalerState, AutoscalerCore)
