"""The prefill service: the core's effects on an engine, and the two calls it serves.

Concurrency: one task per prompt being computed, one per open handoff; both end when
the core says so. Bounds: prompts by `queue_limit`, so tasks too.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context, get_current

from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle
from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import EngineFailed, EngineOutput, EngineRefused, EngineStats
from argosy.instance.convert import engine_request, prompt_key, request_key
from argosy.instance.instance import EngineInstance
from argosy.instance.submissions import SubmissionServer
from argosy.mesh import rpc, telemetry
from argosy.mesh.service import Mesh
from argosy.mesh.tasks import start_watched
from argosy.prefill.core import effects, events
from argosy.prefill.core.prefill import SPEC, PrefillState
from argosy.prefill.settings import PrefillSettings
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.prefill.v1 import events_pb2, prefill_pb2, prefill_pb2_grpc

log = logging.getLogger(__name__)


@dataclass
class PromptWork:
    """One prompt that was taken, and what became of it so far."""

    prompt: inference_pb2.Prompt
    trace: Context
    submitted_s: float = field(default_factory=time.monotonic)
    compute_s: float = 0
    output: EngineOutput | None = None
    task: asyncio.Task[None] | None = None
    kv_blocks: int = 0


class PrefillService(prefill_pb2_grpc.PrefillServicer):
    """Serves Submit and Handoff."""

    def __init__(self, mesh: Mesh[PrefillSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        settings = mesh.settings
        self.instance = EngineInstance(
            mesh,
            instance_pb2.ROLE_PREFILL,
            self,
            stepped=self._on_step,
            load_fact=lambda load: events_pb2.LoadReported(load=load),
            kv_fact=lambda change: events_pb2.KvChanged(change=change),
        )
        state = PrefillState(
            claim_us=round(settings.kv_claim_s * 1e6),
            hold_us=round(settings.kv_hold_s * 1e6),
            queue_limit=settings.queue_limit,
        )
        self._driver = mesh.drive(SPEC, state, self._perform)
        self._work: dict[str, PromptWork] = {}
        self._handoffs: dict[str, asyncio.Future[None]] = {}
        self._releases: set[asyncio.Task[None]] = set()
        self._submissions = SubmissionServer(self._submitted, self.instance.load)
        self._refused: effects.RefuseSubmission | None = None
        self._ended: asyncio.Task[None] | None = None
        descriptor = prefill_pb2.DESCRIPTOR.services_by_name["Prefill"]
        mesh.server.add(prefill_pb2_grpc.add_PrefillServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Load the engine and join the mesh."""
        await self.instance.start()

    async def drain(self) -> None:
        """Wait until every prompt is pulled, released or expired."""
        await self.instance.drain()

    def stop_admitting(self) -> None:
        """See InstanceWork."""
        self._driver.feed(DrainStarted(now_us=self._driver.now_us()))

    def abort(self) -> None:
        """See InstanceWork. A decode that waits for a prompt is refused."""
        self._driver.feed(DrainAborted(now_us=self._driver.now_us()))

    def resume(self) -> None:
        """See InstanceWork."""
        self._driver.feed(DrainEnded(now_us=self._driver.now_us()))

    async def stop(self) -> None:
        """Free the engine."""
        self._submissions.stop()
        await self.instance.stop()

    @rpc.handler("prefill.submit", traced=False)
    async def Submit(self, requests: Any, context: rpc.Context) -> None:
        """Queue the prompts of each batch, or refuse all of them."""
        await self._submissions.serve(requests, context)

    def _submitted(self, batch: Sequence[inference_pb2.Prompt]) -> None:
        self.mesh.check_ready()
        prompts, fresh = [], {}
        for prompt in batch:
            key = prompt_key(prompt)
            if key in self._work or key in fresh:
                raise ArgosyError(Reason.BAD_REQUEST, f"request {key} was submitted before")
            parent = telemetry.child_of(prompt.traceparent)
            with telemetry.span(self.tracer, "prefill.submit", parent):
                fresh[key] = PromptWork(prompt, get_current())
            prompts.append(events.SubmittedPrompt(key, len(prompt.token_ids)))
        self._refused = None
        self._work.update(fresh)
        self._driver.feed(events.PromptsSubmitted(now_us=self._driver.now_us(), prompts=prompts))
        if refused := self._refused:
            for key in fresh:
                del self._work[key]
            raise ArgosyError(
                Reason[refused.reason],
                refused.message,
                retry_after_ms=refused.retry_after_ms,
                instance=self.mesh.name,
            )

    @rpc.handler("prefill.kv_snapshot", traced=False)
    async def KvSnapshot(
        self, request: inference_pb2.KvSnapshotRequest, context: rpc.Context
    ) -> None:
        """Every KV block held here."""
        for part in self.instance.kv_snapshot():
            await context.write(part)

    @rpc.handler("prefill.handoff")
    async def Handoff(self, requests: Any, context: rpc.Context) -> None:
        """Claim, offer, pulled; see the contract."""
        steps = aiter(requests)
        first = await anext(steps, None)
        if first is None or not first.HasField("claim"):
            raise ArgosyError(Reason.BAD_REQUEST, "a handoff begins with a claim")
        key = request_key(first.claim.request_id, first.claim.attempt)
        if key in self._handoffs:
            raise ArgosyError(Reason.TICKET_USED, f"request {key} is being handed over already")
        offered = self._handoffs[key] = asyncio.get_running_loop().create_future()
        pulled = False
        try:
            self._driver.feed(events.HandoffClaimed(now_us=self._driver.now_us(), key=key))
            await offered
            await context.write(self._offer(self._work[key]))
            over = self._handoffs[key] = asyncio.get_running_loop().create_future()
            pulled = await first_of(anext(steps, None), over)
        finally:
            self._handoffs.pop(key, None)
            self._driver.feed(
                events.HandoffEnded(now_us=self._driver.now_us(), key=key, pulled=pulled)
            )

    def _offer(self, work: PromptWork) -> prefill_pb2.HandoffOffer:
        assert work.output is not None
        return prefill_pb2.HandoffOffer(
            prompt=work.prompt,
            kv_handle=work.output.kv_handle,
            cached_tokens=work.output.cached_tokens,
            kv_blocks=work.kv_blocks,
            compute_ms=round(work.compute_s * 1e3),
        )

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.RefuseSubmission():
                self._refused = effect
            case effects.StartCompute():
                work = self._compute(effect.key)
                self._work[effect.key].task = start_watched(work, f"computing {effect.key}")
            case effects.CancelCompute() | effects.ReleaseKv():
                self._let_go(effect.key)
            case effects.OfferKv():
                self._end_wait(effect.key, None)
            case effects.RefuseHandoff():
                error = ArgosyError(Reason[effect.reason], effect.message, instance=self.mesh.name)
                self._end_wait(effect.key, error)
            case effects.PredictIdle():
                self._publish_idle(effect)
            case ReportIdle():
                self._ended = start_watched(self._work_ended(), "ending a drain")

    def _end_wait(self, key: str, error: ArgosyError | None) -> None:
        waiting = self._handoffs.get(key)
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    async def _compute(self, key: str) -> None:
        work = self._work[key]
        request = engine_request(work.prompt, dp_rank=work.prompt.dp_rank, produce=True)
        try:
            with telemetry.span(
                self.tracer, "prefill.compute", work.trace, prompt_tokens=len(work.prompt.token_ids)
            ) as span:
                async for output in self.instance.submit(request):
                    work.output = output
                work.compute_s = time.monotonic() - work.submitted_s
                assert work.output is not None
                span.set_attribute("cached_tokens", work.output.cached_tokens)
        except EngineRefused as error:
            self._compute_failed(key, Reason.BAD_REQUEST, error)
        except EngineFailed as error:
            self._compute_failed(key, Reason.INSTANCE_LOST, error)
        except Exception as error:
            log.exception("computing %s failed", key)
            self._compute_failed(key, Reason.INTERNAL, error)
        else:
            blocks = -(-len(work.prompt.token_ids) // self.instance.info.block_tokens)
            work.kv_blocks = blocks
            self.instance.held_blocks += blocks
            self.instance.counters.finished()
            self._driver.feed(
                events.KvComputed(now_us=self._driver.now_us(), key=key, kv_blocks=blocks)
            )
            self.instance.report()

    def _compute_failed(self, key: str, reason: Reason, error: Exception) -> None:
        now_us = self._driver.now_us()
        self._driver.feed(
            events.ComputeFailed(now_us=now_us, key=key, reason=reason.name, message=str(error))
        )

    def _let_go(self, key: str) -> None:
        work = self._work.pop(key, None)
        if work is None:
            return
        if work.task is not None and not work.task.done():
            work.task.cancel()
        release = start_watched(self._release(key, work), f"releasing {key}")
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)

    async def _release(self, key: str, work: PromptWork) -> None:
        if work.output is not None and work.output.kv_handle is not None:
            try:
                await self.instance.engine.release(key, work.output.kv_handle)
            except Exception:
                log.exception("the engine did not release %s: its lease has to run out", key)
        self.instance.held_blocks -= work.kv_blocks
        self.instance.report()

    async def _work_ended(self) -> None:
        """No work is left once the engine has freed what was released, too."""
        await asyncio.gather(*self._releases)
        if not self._work:
            self.instance.life.work_ended()

    def _on_step(self, stats: EngineStats) -> None:
        now_us = self._driver.now_us()
        self._driver.feed(
            events.EngineStepEnded(now_us=now_us, queued_prefill_tokens=stats.queued_prefill_tokens)
        )

    def _publish_idle(self, effect: effects.PredictIdle) -> None:
        self.mesh.bus.publish(
            events_pb2.IdlePredicted(
                instance_id=self.mesh.name,
                epoch=self.mesh.epoch,
                idle_at_us=effect.idle_at_us,
                queued_prefill_tokens=effect.queued_prefill_tokens,
            )
        )


async def first_of(step: Any, over: "asyncio.Future[None]") -> bool:
    """True if decode reports `pulled`, False if it hangs up; raises the error that `over` gets."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            over.result()
        answer = await task
        return answer is not None and answer.HasField("pulled")
    finally:
        task.cancel()
