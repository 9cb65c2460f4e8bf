"""Runs an instance's lifecycle core: takes its steps, publishes its changes, feeds it decisions.

Concurrency: one step at a time, in a task of its own; an abandoned step is cancelled. Steps
that touch the engine's memory are cancelled only when the process ends. A step that fails ends
the process.
"""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.lifecycle import NOT_SERVING, LifecycleState, LifecycleStep
from argosy.engine.api import Engine, EngineRequest, SamplingSpec
from argosy.engine.memory import resident_bytes, trim_heap
from argosy.instance.kv_store.link import StoreLink
from argosy.instance.lifecycle import effects, events
from argosy.instance.lifecycle.core import SPEC, LifecycleCoreState
from argosy.instance.settings import InstanceSettings
from argosy.mesh import rpc
from argosy.mesh.service import Mesh
from argosy.mesh.tasks import start_watched
from argosy.wire.instance.v1 import events_pb2, instance_pb2, instance_pb2_grpc

log = logging.getLogger(__name__)

FLUSH_S = 5
"""How long staged KV may take to reach the stores: what is not saved by then is computed again."""
QUIET_S = 10
"""How long the engine may take to free requests whose callers are gone; then sleep goes on."""
QUIET_POLL_S = 0.01
WARM_UP_TOKENS = 8
"""A prompt that takes one step: enough to make the engine allocate what it needs for steps."""
STATES = {state: getattr(events_pb2, f"STATE_{state.name}") for state in LifecycleState}

S = TypeVar("S", bound=InstanceSettings)


class InstanceWork(Protocol):
    """The requests of an instance, as its lifecycle has to do with them."""

    def stop_admitting(self) -> None:
        """Refuse new requests. Call `LifecycleRunner.work_ended` once none is left."""
        ...

    def abort(self) -> None:
        """End the requests that are left: their callers go on elsewhere."""
        ...

    def resume(self) -> None:
        """Admit new requests again."""
        ...


class LifecycleRunner(instance_pb2_grpc.LifecycleServicer):
    """See the module. publish_change: publishes the fact of this name with this change.
    give_up: ends the process, with a reason.
    """

    def __init__(
        self,
        mesh: Mesh[S],
        engine: Engine,
        work: InstanceWork,
        publish_change: Callable[[str, events_pb2.Change], None],
        give_up: Callable[[str], None],
    ) -> None:
        self.tracer = mesh.tracer
        self.link: StoreLink | None = None
        self.state = LifecycleCoreState(since_us=mesh.clock.now_us())
        self._mesh = mesh
        self._engine = engine
        self._work = work
        self._publish_change = publish_change
        self._give_up = give_up
        self._driver = mesh.drive(SPEC, self.state, self._perform)
        self._step: asyncio.Task[None] | None = None
        self._work_ended = asyncio.Event()
        self._stopped = asyncio.Event()
        self._steps: dict[str, Callable[[str], Awaitable[None]]] = {
            LifecycleStep.DRAIN: self._drain,
            LifecycleStep.FLUSH: self._flush,
            LifecycleStep.WITHDRAW: self._withdraw,
            LifecycleStep.FREE: self._free,
            LifecycleStep.LOAD: self._load,
            LifecycleStep.REGISTER: self._register,
            LifecycleStep.WARM_UP: self._warm_up,
        }
        descriptor = instance_pb2.DESCRIPTOR.services_by_name["Lifecycle"]
        mesh.server.add(instance_pb2_grpc.add_LifecycleServicer_to_server, self, descriptor)

    @property
    def not_serving(self) -> bool:
        """Whether the instance takes no requests for now."""
        return self.state.state in NOT_SERVING

    def loaded(self) -> None:
        """The engine has loaded, and takes requests."""
        self._driver.feed(events.Loaded(now_us=self._driver.now_us()))

    def work_ended(self) -> None:
        """No request is left of those admitted before `InstanceWork.stop_admitting`."""
        self._work_ended.set()

    async def stop(self, cause: str) -> None:
        """Return when the running requests have ended and their KV is stored."""
        self._driver.feed(events.StopRequested(now_us=self._driver.now_us(), cause=cause))
        await self._stopped.wait()

    def end(self) -> None:
        """The process ends now."""
        if self._step is not None:
            self._step.cancel()
        self._driver.feed(events.ProcessEnding(now_us=self._driver.now_us()))

    def change(self) -> events_pb2.Change:
        """The last change, as facts have it."""
        state = self.state
        return events_pb2.Change(
            state=STATES[state.state],
            number=state.change,
            cause=state.led_why,
            decision_sequence=state.led_sequence,
            resident_bytes=state.resident_bytes,
            level=state.level,
        )

    @rpc.handler("life.sleep")
    async def Sleep(  # noqa: N802 - gRPC names methods as the contract does
        self, request: instance_pb2.SleepRequest, context: rpc.Context
    ) -> instance_pb2.LifecycleReply:
        """Take in a decision to sleep."""
        if request.level not in ("dram", "disk"):
            message = f"no sleep level '{request.level}': there are dram and disk"
            raise ArgosyError(Reason.BAD_REQUEST, message)
        event = events.SleepRequested(
            now_us=self._driver.now_us(),
            decision_sequence=request.decision_sequence,
            level=request.level,
            drain_us=request.drain_ms * 1000,
            cause=request.cause,
        )
        self._driver.feed(event)
        return instance_pb2.LifecycleReply(change=self.change(), epoch=self._mesh.epoch)

    @rpc.handler("life.wake")
    async def Wake(  # noqa: N802 - gRPC names methods as the contract does
        self, request: instance_pb2.WakeRequest, context: rpc.Context
    ) -> instance_pb2.LifecycleReply:
        """Take in a decision to wake."""
        self._driver.feed(
            events.WakeRequested(
                now_us=self._driver.now_us(),
                decision_sequence=request.decision_sequence,
                cause=request.cause,
            )
        )
        return instance_pb2.LifecycleReply(change=self.change(), epoch=self._mesh.epoch)

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.TakeStep():
                work = self._take_step(effect.step, effect.level)
                self._step = start_watched(work, f"step {effect.step}", self._give_up)
            case effects.AbandonStep():
                assert self._step is not None
                self._step.cancel()
            case effects.AbortWork():
                self._work.abort()
            case effects.ResumeWork():
                self._work.resume()
            case effects.PublishChange():
                self._publish(effect)
            case effects.ReportStopped():
                self._stopped.set()
            case effects.GiveUp():
                self._give_up(effect.reason)

    def _publish(self, effect: effects.PublishChange) -> None:
        change = events_pb2.Change(
            state=STATES[LifecycleState(effect.state)],
            number=effect.change,
            cause=effect.cause,
            decision_sequence=effect.decision_sequence,
            took_ms=effect.took_us // 1000,
            resident_bytes=effect.resident_bytes,
            level=effect.level,
        )
        for name, took_us in effect.steps_us:
            change.steps.add(name=name, ms=took_us // 1000)
        log.info("%s: %s", effect.state, effect.cause)
        self._publish_change(effect.fact, change)

    async def _take_step(self, step: str, level: str) -> None:
        trouble = ""
        try:
            await self._steps[step](level)
        except Exception as error:
            log.exception("%s failed", step)
            trouble = repr(error)
        self._driver.feed(
            events.LifecycleStepEnded(now_us=self._driver.now_us(), step=step, trouble=trouble)
        )

    # -- steps

    async def _drain(self, level: str) -> None:
        self._work_ended.clear()
        self._work.stop_admitting()
        await self._work_ended.wait()
        # Requests whose callers went away take the engine a moment to let go of.
        deadline = asyncio.get_running_loop().time() + QUIET_S
        while busy(self._engine):
            if asyncio.get_running_loop().time() > deadline:
                log.warning("the engine still speaks of work after %d s", QUIET_S)
                return
            await asyncio.sleep(QUIET_POLL_S)

    async def _flush(self, level: str) -> None:
        if self.link is not None:
            await self.link.saved(FLUSH_S)

    async def _withdraw(self, level: str) -> None:
        if self.link is not None:
            await self.link.withdraw()
        await self._engine.withdraw()

    async def _free(self, level: str) -> None:
        await self._engine.sleep("disk" if level == "disk" else "dram")
        await asyncio.to_thread(give_back_memory)
        held = await asyncio.to_thread(resident_bytes, os.getpid())
        self._driver.feed(events.MemoryRead(now_us=self._driver.now_us(), resident_bytes=held))

    async def _load(self, level: str) -> None:
        await self._engine.wake()

    async def _register(self, level: str) -> None:
        await self._engine.register()
        if self.link is not None:
            await self.link.register()

    async def _warm_up(self, level: str) -> None:
        sampling = SamplingSpec(max_tokens=1, temperature=0, ignore_eos=True)
        name = f"warm-up-{self.state.change}"
        request = EngineRequest(name, [1] * WARM_UP_TOKENS, sampling, cache_salt="warm-up")
        async for _ in self._engine.submit(request):
            pass


def busy(engine: Engine) -> bool:
    """Whether the engine still holds anything of a request."""
    stats = engine.stats()
    return bool(stats.running_requests or stats.waiting_requests or stats.kv_used_blocks)


def give_back_memory() -> None:
    """Return memory that this process has freed to the operating system."""
    gc.collect()
    trim_heap()
