"""The autoscaler: load comes in, decisions go out, and callers can ask what is expected and why."""

import asyncio
import logging
from typing import Any

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.autoscaler import SPEC, TICK
from argosy.autoscaler.core.forecast.forecaster import Forecaster
from argosy.autoscaler.core.observe import observation
from argosy.autoscaler.core.state import AutoscalerState
from argosy.autoscaler.settings import AutoscalerSettings
from argosy.autoscaler.shell import publisher
from argosy.autoscaler.shell.decisions import Decisions
from argosy.autoscaler.shell.history import History, read_slots
from argosy.autoscaler.shell.season_fits import SeasonFits
from argosy.autoscaler.shell.sleep_requests import SleepRequests
from argosy.autoscaler.shell.subscriptions import AutoscalerSubscriptions
from argosy.autoscaler.shell.tracing import DecisionTraces
from argosy.domain.core import TimerFired
from argosy.domain.errors import ArgosyError, Reason
from argosy.fleet.plans import OperationalPlan, Plans
from argosy.mesh import rpc
from argosy.mesh.bus import Envelope
from argosy.mesh.service import Mesh
from argosy.wire.autoscaler.v1 import autoscaler_pb2, autoscaler_pb2_grpc, events_pb2

log = logging.getLogger(__name__)

REPORT_S = 1.0
LATE_TICKS = 3
RECALLED_S = 32 * 86_400
"""Experts and errors forget within weeks; only Prophet reads the whole history."""
PLANS_S = 3600
"""How often windows of plans are looked up anew: days come closer."""


class AutoscalerService(autoscaler_pb2_grpc.AutoscalerServicer):
    """Serves Status, Explain, History and plans. The control log and its disk are its memory."""

    def __init__(self, mesh: Mesh[AutoscalerSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        self._state = AutoscalerState(limits=mesh.settings.limits())
        self._driver = mesh.drive(SPEC, self._state, self._perform)
        data = mesh.settings.data_dir
        self._history = History(data / mesh.name if data is not None else None)
        self._plans = Plans()
        self._decisions = Decisions()
        self._subscriptions = AutoscalerSubscriptions(mesh, self._driver, self._plans)
        self._traced = DecisionTraces(mesh.tracer)
        self._fits = SeasonFits(self._history, mesh.settings.country)
        self._sleep = SleepRequests(mesh, self._state, self._driver)
        self._tasks: set[asyncio.Task[None]] = set()
        descriptor = autoscaler_pb2.DESCRIPTOR.services_by_name["Autoscaler"]
        mesh.server.add(autoscaler_pb2_grpc.add_AutoscalerServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Read history and the control log, then begin to plan."""
        await self.mesh.wait_for_bus()
        self.mesh.wait_for("the fleet's control log")
        bus, durable = self.mesh.bus, f"{self.mesh.name}-{self.mesh.epoch}"
        await bus.follow(events_pb2.DemandMeasured, self._on_slot, f"{durable}-history").wait()
        since_us = self._driver.now_us() - RECALLED_S * 1_000_000
        slots = await asyncio.to_thread(read_slots, self._history.path, since_us)
        for number, slot in enumerate(slots):
            self._driver.feed(recalled(slot, self._driver.now_us()))
            if number % 256 == 0:
                await asyncio.sleep(0)  # Health checks are answered meanwhile.
        await bus.follow(events_pb2.ScaleDecided, self._on_scale, f"{durable}-scale").wait()
        self._decisions.follow(bus, durable)
        await self._subscriptions.start()
        self._begin(self._report())

    async def drain(self) -> None:
        """Nothing runs here."""

    async def stop(self) -> None:
        """Stop fitting, and finish writing."""
        for task in self._tasks:
            task.cancel()
        self._fits.stop()
        self._history.close()

    @rpc.handler("autoscaler.status", traced=False)
    async def Status(self, request: Any, context: Any) -> autoscaler_pb2.StatusReply:
        """What is known, expected and decided."""
        state, now_us = self._state, self._driver.now_us()
        reply = autoscaler_pb2.StatusReply(
            mode=state.scaling.mode if state.scaling is not None else "",
            generation=state.decided.generation,
            signals=observation.signals(state, now_us),
            recent=self._decisions.recent(20),
            slots=self._history.count(),
        )
        if reply.recent:
            reply.last.CopyFrom(reply.recent[-1])
        slot_us = state.limits.slot_us
        for number, band in enumerate(Forecaster(state.forecast).path(state.limits.plan_slots)):
            reply.ahead.append(
                autoscaler_pb2.Ahead(
                    start_us=(now_us // slot_us + number) * slot_us,
                    rate_mean=band.mean,
                    rate_upper=band.upper,
                )
            )
        return reply

    @rpc.handler("autoscaler.explain", traced=False)
    async def Explain(
        self, request: autoscaler_pb2.ExplainRequest, context: Any
    ) -> autoscaler_pb2.ExplainReply:
        """One decision, and what came of it."""
        return self._decisions.explain(request.id)

    @rpc.handler("autoscaler.add_plan")
    async def AddPlan(
        self, request: autoscaler_pb2.AddPlanRequest, context: Any
    ) -> autoscaler_pb2.Plan:
        """Check a plan and make it hold."""
        self.mesh.check_ready()
        now_us = self._driver.now_us()
        name = self._plans.check(request.name, request.text, now_us)
        self.mesh.bus.publish(events_pb2.PlanChanged(name=name, text=request.text))
        self._plans.changed(name, request.text, now_us)
        self._subscriptions.tell_plans()
        plan = self._plans.get(name)
        assert plan is not None
        return self._shown(plan, now_us)

    @rpc.handler("autoscaler.remove_plan")
    async def RemovePlan(
        self, request: autoscaler_pb2.RemovePlanRequest, context: Any
    ) -> autoscaler_pb2.Plan:
        """Let a plan hold no longer."""
        self.mesh.check_ready()
        plan = self._plans.get(request.name)
        if plan is None:
            known = ", ".join(p.name for p in self._plans.all()) or "none"
            message = f"no plan '{request.name}' that was added; there are: {known}"
            raise ArgosyError(Reason.NO_DECISION, message)
        shown = self._shown(plan, self._driver.now_us())
        self.mesh.bus.publish(events_pb2.PlanChanged(name=plan.name, removed=True))
        self._plans.changed(plan.name, "", 0)
        self._subscriptions.tell_plans()
        return shown

    @rpc.handler("autoscaler.list_plans", traced=False)
    async def ListPlans(self, request: Any, context: Any) -> autoscaler_pb2.ListPlansReply:
        """All plans, the fleet file's first."""
        now_us = self._driver.now_us()
        plans = [self._shown(plan, now_us) for plan in self._plans.all()]
        return autoscaler_pb2.ListPlansReply(plans=plans)

    def _shown(self, plan: OperationalPlan, now_us: int) -> autoscaler_pb2.Plan:
        found = autoscaler_pb2.Plan(name=plan.name, text=plan.text, source=plan.source)
        if windows := self._plans.windows_of(plan, now_us):
            first = min(windows, key=lambda window: window.from_us)
            found.from_us, found.until_us = first.from_us, first.until_us
        return found

    @rpc.handler("autoscaler.history", traced=False)
    async def History(self, request: autoscaler_pb2.HistoryRequest, context: rpc.Context) -> None:
        """Slots of history, oldest first."""
        for slot in await asyncio.to_thread(read_slots, self._history.path, request.since_us):
            await context.write(slot)

    @rpc.handler("autoscaler.sleep")
    async def Sleep(
        self, request: autoscaler_pb2.SleepRequest, context: Any
    ) -> autoscaler_pb2.SleepReply:
        """Decide that instances sleep."""
        return autoscaler_pb2.SleepReply(instance_ids=self._sleep.sleep(request))

    @rpc.handler("autoscaler.wake")
    async def Wake(
        self, request: autoscaler_pb2.WakeRequest, context: Any
    ) -> autoscaler_pb2.WakeReply:
        """Decide that instances wake."""
        return autoscaler_pb2.WakeReply(instance_ids=self._sleep.wake(request))

    @rpc.handler("autoscaler.sleep_status", traced=False)
    async def SleepStatus(self, request: Any, context: Any) -> autoscaler_pb2.SleepStatusReply:
        """What was last decided on each instance, and whether its node refused."""
        return self._sleep.status()

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.PublishSlot():
                slot = publisher.slot_fact(effect)
                self._history.add(slot)
                self.mesh.bus.publish(slot)
            case effects.FitSeason():
                self._begin(self._fit(effect))
            case effects.DecideScale():
                with self._traced.decision(effect, self._state, self._driver.now_us()) as parent:
                    fact = publisher.scale_fact(effect, self._driver.now_us(), parent)
                    self._decisions.add(fact)
                    self.mesh.bus.publish(fact)
            case effects.DecideSleep():
                with self._traced.part(effect.decision):
                    self.mesh.bus.publish(publisher.sleep_fact(effect))
            case effects.DecideWake():
                with self._traced.part(effect.decision):
                    self.mesh.bus.publish(publisher.wake_fact(effect))

    async def _fit(self, effect: effects.FitSeason) -> None:
        """Let Prophet look at the history, in a process of its own."""
        first_us, _ = self._history.span_us()
        windows = self._plans.windows(self._driver.now_us(), first_us)
        found = await self._fits.fit(effect.slot_us, effect.slots, windows)
        if found is not None:
            now_us = self._driver.now_us()
            self._driver.feed(
                events.SeasonFitted(now_us=now_us, start_us=found.start_us, rates=found.rates)
            )

    async def _report(self) -> None:
        """Each second: give the core the loads that were reported, and report that it is there."""
        plans_at_us = self._driver.now_us()
        while True:
            now_us = self._driver.now_us()
            try:
                self._subscriptions.tell_loads()
                if now_us - plans_at_us >= PLANS_S * 1_000_000:
                    plans_at_us = now_us
                    self._subscriptions.tell_plans()
                if self._late(now_us):
                    self._driver.feed(TimerFired(now_us=now_us, key=TICK))
            except Exception:
                log.exception("a plan failed; the next one is tried")
            self.mesh.bus.publish(self._report_fact(now_us))
            await asyncio.sleep(REPORT_S)

    def _late(self, now_us: int) -> bool:
        """Whether ticks have ended: one that failed has not set the next."""
        state = self._state
        tick_us = max(state.limits.tick_us, round(REPORT_S * 1e6))
        return bool(state.ticked_us) and now_us - state.ticked_us > LATE_TICKS * tick_us

    def _report_fact(self, now_us: int) -> events_pb2.ScalerReported:
        state = self._state
        return events_pb2.ScalerReported(
            scaler=self.mesh.name,
            generation=state.decided.generation,
            mode=state.scaling.mode if state.scaling is not None else "",
            signals=observation.signals(state, now_us),
        )

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("autoscaler: %r; forecasts go on without it", error)

    def _on_slot(self, fact: events_pb2.DemandMeasured, envelope: Envelope) -> None:
        self._history.add(fact)

    def _on_scale(self, fact: events_pb2.ScaleDecided, envelope: Envelope) -> None:
        self._decisions.add(fact)
        if fact.generation > self._state.decided.generation:
            self._driver.feed(
                events.ScaleRecalled(
                    now_us=self._driver.now_us(),
                    generation=fact.generation,
                    awake={pool.role: pool.awake for pool in fact.pools},
                    exist={pool.role: pool.exist for pool in fact.pools},
                    at_us=fact.at_us,
                )
            )


def recalled(slot: events_pb2.DemandMeasured, now_us: int) -> events.SlotRecalled:
    """A slot of history, for the core."""
    return events.SlotRecalled(
        now_us=now_us,
        start_us=slot.start_us,
        seconds=float(max(1, slot.seconds)),
        requests=slot.requests,
        prompt_tokens=slot.prompt_tokens,
        prompt_tokens_squared=slot.prompt_tokens_squared,
        cached_tokens=slot.cached_tokens,
        finished=slot.finished,
        output_tokens=slot.output_tokens,
        output_tokens_squared=slot.output_tokens_squared,
    )
