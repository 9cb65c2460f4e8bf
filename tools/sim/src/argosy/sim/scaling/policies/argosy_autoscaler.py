"""Argosy's own autoscaler: its real core, told what a policy may see.

Every instance of the budget is there, at work or asleep, and takes `start_s` to be at work: as long
as a wake, or (`argosy_cold`) the warm-up that all other policies pay. What the core decides about
instances is told to the simulation as counts.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.autoscaler import TICK, AutoscalerCore
from argosy.autoscaler.core.forecast.forecaster import Forecaster
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning import expected_demand
from argosy.autoscaler.core.state import AutoscalerState, Baseline, ScalerLimits
from argosy.autoscaler.season.season_job import look_ahead
from argosy.domain.core import TimerFired
from argosy.domain.demand import Machine, Slo
from argosy.domain.histogram import bucket_of
from argosy.domain.plan_window import PlanWindow
from argosy.domain.timing import Timing
from argosy.sim.scaling.observation import ROLES, Observation

BEGAN_US = 1_767_571_200_000_000
"""Traces do not say when they were recorded: they begin on a Monday, at midnight UTC."""
EPOCH = "1"


class ForecastPoint(msgspec.Struct, frozen=True):
    """What was expected of a slot when it was as far ahead as decisions take effect."""

    at_s: float
    """The slot's middle."""
    mean: float
    upper: float


class ArgosyPolicy:
    """See the module."""

    def __init__(
        self,
        timing: Timing,
        machine: Machine,
        slo: Slo,
        budget: int,
        start_s: float,
        initial: dict[str, int],
        name: str = "argosy",
        every_s: float = 5.0,
        dwell_s: float = 600.0,
        began_us: int = BEGAN_US,
        windows: Sequence[PlanWindow] = (),
    ) -> None:
        self.name, self.every_s, self.start_s = name, every_s, start_s
        warm_up_us = round(1e6 * start_s)
        limits = ScalerLimits(tick_us=round(1e6 * every_s))
        baselines = {role: Baseline(wake_us=warm_up_us, start_us=warm_up_us) for role in ROLES}
        self.core = AutoscalerCore(AutoscalerState(limits=limits, baselines=baselines))
        self.decisions: list[effects.DecideScale] = []
        self._change = 1
        self._slo = slo
        self._counts = ([0, 0], [0, 0])
        self._sums = [0.0] * 7
        self.foreseen: list[ForecastPoint] = []
        self._began_us = self._now_us = began_us
        self._slots: list[tuple[int, float]] = []
        bounds = events.PoolBounds(budget - 1, 1, budget - 1)
        self._feed(
            events.ScalingApplied(
                now_us=began_us,
                generation=1,
                mode="act",
                pools=dict.fromkeys(ROLES, bounds),
                budget=budget,
                silent=0,
                idle_sleep_us=0,
                sleep_level="dram",
                slo=slo,
                ratio_min=0,
                ratio_max=0,
                dwell_us=round(1e6 * dwell_s),
            )
        )
        self._feed(events.PlansChanged(now_us=began_us, windows=list(windows)))
        for role in ROLES:
            for number in range(budget - 1):
                self._join(role, f"{role}-{number:04d}", timing, machine, number < initial[role])

    def decide(self, observation: Observation) -> dict[str, int]:
        """Tell the core, and count who it wants at work."""
        self._now_us = self._began_us + round(1e6 * observation.now_s)
        for role in ROLES:
            self._catch_up(role, observation.ready[role], observation.draining[role])
        came = (
            observation.arrived_requests,
            observation.prompt_tokens,
            observation.prompt_tokens_squared,
            observation.cached_tokens,
            observation.finished_requests,
            observation.output_tokens,
            observation.output_tokens_squared,
        )
        self._sums = [total + more for total, more in zip(self._sums, came, strict=True)]
        requests, prompt, prompt_squared, cached, finished, output, output_squared = self._sums
        at_work = self._of("decode", "active")
        if at_work:
            self._feed(
                events.LoadSeen(
                    now_us=self._now_us,
                    instance=at_work[0],
                    epoch=EPOCH,
                    running=observation.running_requests,
                    waiting=observation.waiting_decode,
                    queued_tokens=0,
                    kv_share=observation.kv_share,
                    finished=finished,
                    output_tokens=output,
                    output_tokens_squared=output_squared,
                    ttft_buckets=[],
                    tpot_buckets=self._late(
                        1, observation.finished_requests, observation.late_tpot
                    ),
                )
            )
        self._feed(
            events.TrafficSeen(
                now_us=self._now_us,
                router="router",
                epoch=EPOCH,
                queued=observation.queued_requests,
                queued_tokens=0,
                requests=requests,
                prompt_tokens=prompt,
                prompt_tokens_squared=prompt_squared,
                cached_tokens=cached,
                ttft_buckets=self._late(0, observation.arrived_requests, observation.late_ttft),
            )
        )
        self._feed(TimerFired(now_us=self._now_us, key=TICK))
        state = self.core.state
        return {
            role: sum(
                members.ready(m) or members.coming(m) for m in members.of_role(state, role).values()
            )
            for role in ROLES
        }

    def _late(self, kind: int, requests: int, share: float) -> list[int]:
        """Counts by bucket, as engines and routers keep them, from the share beyond the SLO."""
        counts = self._counts[kind]
        late = round(share * requests)
        counts[0] += requests - late
        counts[1] += late
        limit_ms = (self._slo.ttft_ms, self._slo.tpot_ms)[kind]
        within = bucket_of(limit_ms)
        return [0] * within + [counts[0], counts[1]]

    def _feed(self, event: Any) -> None:
        for effect in self.core.step(event):
            match effect:
                case effects.DecideScale():
                    self.decisions.append(effect)
                case effects.DecideSleep():
                    self._becomes(effect.instance, "draining")
                case effects.DecideWake():
                    self._becomes(effect.instance, "waking")
                case effects.PublishSlot():
                    self._slots.append((effect.start_us, effect.requests / effect.seconds))
                    self._foresee()
                case effects.FitSeason():
                    self._fit(effect)

    def _foresee(self) -> None:
        state = self.core.state
        slots = max(1, math.ceil(expected_demand.lead_slots(state)))
        band = Forecaster(state.forecast).forecast(slots)
        slot = state.forecast.experts.slot + slots
        at_us = slot * state.limits.slot_us + state.limits.slot_us // 2
        self.foreseen.append(ForecastPoint((at_us - self._began_us) / 1e6, band.mean, band.upper))

    def _fit(self, effect: effects.FitSeason) -> None:
        found = look_ahead(self._slots, effect.slot_us, effect.slots)
        if found is not None:
            self._feed(
                events.SeasonFitted(now_us=self._now_us, start_us=found.start_us, rates=found.rates)
            )

    def _join(self, role: str, name: str, timing: Timing, machine: Machine, at_work: bool) -> None:
        self._feed(
            events.MemberDecided(now_us=self._now_us, instance=name, role=role, node=name, run=True)
        )
        joined = events.MemberJoined(
            now_us=self._now_us,
            instance=name,
            epoch=EPOCH,
            role=role,
            node=name,
            rack="",
            change=1,
            timing=timing,
            machine=machine,
        )
        self._feed(joined)
        if not at_work:
            self._becomes(name, "silent")

    def _becomes(self, name: str, state: str, took_us: int = 0) -> None:
        self._change += 1
        changed = events.MemberChanged(
            now_us=self._now_us,
            instance=name,
            epoch=EPOCH,
            change=self._change,
            state=state,
            took_us=took_us,
        )
        self._feed(changed)

    def _of(self, role: str, state: str) -> list[str]:
        there = members.of_role(self.core.state, role)
        return [name for name, member in there.items() if member.state == state]

    def _catch_up(self, role: str, ready: int, draining: int) -> None:
        """Those that have become ready or have gone since."""
        leaving = self._of(role, "draining")
        for name in leaving[: max(0, len(leaving) - draining)]:
            self._becomes(name, "silent")
        lacking = ready - len(self._of(role, "active"))
        there = members.of_role(self.core.state, role)
        waking = sorted(
            (m.decision_sequence, name) for name, m in there.items() if m.state == "waking"
        )
        for _, name in waking[: max(0, lacking)]:
            self._becomes(name, "active")
