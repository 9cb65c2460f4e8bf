"""The decode service: tickets in, tokens out.

Concurrency: one handler task per answer; a caller that hangs up cancels it, which
cancels the engine's request first and the handoff after. Bounds: answers by
`queue_limit`; a slow reader holds back its own stream only (gRPC flow control).
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from argosy.decode.core import effects, events
from argosy.decode.core.decode import SPEC, DecodeState
from argosy.decode.settings import DecodeSettings
from argosy.decode.shell.answer import AnswerStream
from argosy.decode.shell.handoff import Handoff
from argosy.decode.shell.latency import LatencyRecorder
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle
from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.kv_blocks import chained_block_hashes, digest_of, root_hash
from argosy.engine import text
from argosy.engine.api import EngineFailed, EngineOutput, EngineRefused, EngineRequest, KvLost
from argosy.instance.convert import engine_request, prompt_key
from argosy.instance.instance import EngineInstance
from argosy.mesh import rpc, telemetry, tickets
from argosy.mesh.service import Mesh
from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc, events_pb2
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.prefill.v1 import prefill_pb2
from argosy.wire.prefill.v1.prefill_pb2_grpc import PrefillStub


class DecodeService(decode_pb2_grpc.DecodeServicer):
    """Serves Generate."""

    def __init__(self, mesh: Mesh[DecodeSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        settings = mesh.settings
        self._secret = settings.fleet_secret.get_secret_value().encode()
        self._tokenizer = text.load(settings.model_source)
        self.instance = EngineInstance(
            mesh,
            instance_pb2.ROLE_DECODE,
            self,
            stepped=lambda stats: None,
            load_fact=lambda load: events_pb2.LoadReported(load=load),
            kv_fact=lambda change: events_pb2.KvChanged(change=change),
        )
        state = DecodeState(mesh.name, settings.queue_limit)
        self._driver = mesh.drive(SPEC, state, self._perform)
        self._decisions: dict[str, Any] = {}
        self._answers: dict[str, asyncio.Task[Any]] = {}
        self._aborted: set[str] = set()
        descriptor = decode_pb2.DESCRIPTOR.services_by_name["Decode"]
        mesh.server.add(decode_pb2_grpc.add_DecodeServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Load the engine and join the mesh."""
        await self.instance.start()

    async def drain(self) -> None:
        """Wait until every answer is finished."""
        await self.instance.drain()

    def stop_admitting(self) -> None:
        """See InstanceWork."""
        self._driver.feed(DrainStarted(now_us=self._driver.now_us()))

    def abort(self) -> None:
        """See InstanceWork. Routers and clients go on elsewhere."""
        self._driver.feed(DrainAborted(now_us=self._driver.now_us()))

    def resume(self) -> None:
        """See InstanceWork."""
        self._driver.feed(DrainEnded(now_us=self._driver.now_us()))

    async def stop(self) -> None:
        """Free the engine."""
        await self.instance.stop()

    @rpc.handler("decode.generate")
    async def Generate(self, request: decode_pb2.GenerateRequest, context: rpc.Context) -> None:
        """Stream the answer a ticket permits."""
        self.mesh.check_ready()
        ticket = tickets.verify(request.ticket, self._secret)
        key = prompt_key(ticket)
        brought = request.HasField("prompt")
        if brought and prompt_key(request.prompt) != key:
            message = f"the ticket is for {key}, the prompt is {prompt_key(request.prompt)}"
            raise ArgosyError(Reason.TICKET_MISDIRECTED, message, instance=self.mesh.name)
        decision = self._decide(ticket, request.ticket.signature, brought=brought)
        if isinstance(decision, effects.RefuseTicket):
            raise ArgosyError(Reason[decision.reason], decision.message, instance=self.mesh.name)
        answering = asyncio.current_task()
        assert answering is not None
        self._answers[key] = answering
        try:
            async with AsyncExitStack() as stack:
                handoff = None
                if isinstance(decision, effects.PullAndAnswer):
                    stub = self.mesh.channels.stub(PrefillStub, ticket.prefill_address)
                    handoff = await stack.enter_async_context(Handoff(stub, ticket))
                await self._answer(ticket, request.prompt, handoff, context)
        except asyncio.CancelledError:
            if key not in self._aborted:
                raise
            answering.uncancel()
            message = "this decode instance is to sleep or to stop: go on elsewhere"
            raise ArgosyError(Reason.DRAINING, message, instance=self.mesh.name) from None
        finally:
            del self._answers[key]
            self._aborted.discard(key)
            self._driver.feed(events.AnswerEnded(now_us=self._driver.now_us(), key=key))

    @rpc.handler("decode.kv_snapshot", traced=False)
    async def KvSnapshot(
        self, request: inference_pb2.KvSnapshotRequest, context: rpc.Context
    ) -> None:
        """Every KV block held here."""
        for part in self.instance.kv_snapshot():
            await context.write(part)

    def _decide(self, ticket: inference_pb2.Ticket, signature: bytes, *, brought: bool) -> Any:
        key = prompt_key(ticket)
        self._driver.feed(
            events.TicketPresented(
                now_us=self._driver.now_us(),
                key=key,
                prefill_instance=ticket.prefill_instance,
                decode_instance=ticket.decode_instance,
                expires_us=ticket.expires_ms * 1000,
                ticket=signature[:8].hex(),
                brought=brought,
            )
        )
        return self._decisions.pop(key)

    def _check_prompt(self, ticket: inference_pb2.Ticket, prompt: inference_pb2.Prompt) -> None:
        """A ticket is for one prompt: raise TICKET_MISDIRECTED for any other."""
        model = self.mesh.settings.model
        own = prompt.token_ids[: len(prompt.token_ids) - prompt.resumed_tokens]
        root = root_hash(model, prompt.cache_salt)
        digest = digest_of(chained_block_hashes(own, self.instance.info.block_tokens, root))
        same = ticket.model == model and ticket.blocks_digest == digest
        if not same or prompt.sampling.max_tokens > ticket.max_tokens:
            raise ArgosyError(
                Reason.TICKET_MISDIRECTED,
                f"the ticket of {ticket.request_id} is for another model, prompt or length; "
                "router and decode must have the same model and block_tokens",
                instance=self.mesh.name,
            )

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.RefuseTicket() | effects.PullAndAnswer() | effects.ComputeAndAnswer():
                self._decisions[effect.key] = effect
            case effects.EndAnswer():
                self._aborted.add(effect.key)
                self._answers[effect.key].cancel()
            case ReportIdle():
                self.instance.life.work_ended()

    async def _answer(
        self,
        ticket: inference_pb2.Ticket,
        prompt: inference_pb2.Prompt,
        handoff: Handoff | None,
        context: rpc.Context,
    ) -> None:
        timing = inference_pb2.Timing(disaggregated=handoff is not None, attempts=1)
        if handoff is None:
            request = engine_request(prompt, dp_rank=ticket.decode_dp_rank)
        else:
            began = time.monotonic()
            with telemetry.span(self.tracer, "decode.await_kv"):
                offer = await self._claim(handoff)
            timing.kv_wait_ms = elapsed_ms(began)
            prompt = offer.prompt
            request = engine_request(
                prompt, dp_rank=ticket.decode_dp_rank, kv_handle=offer.kv_handle
            )
        self._check_prompt(ticket, prompt)
        answer = AnswerStream(prompt, self._tokenizer)
        if handoff is not None:
            answer.cached_tokens = offer.cached_tokens
        latency = LatencyRecorder(self.instance.counters, ticket, answer)
        await self._stream(answer, latency, request, handoff, timing, context)

    async def _claim(self, handoff: Handoff) -> prefill_pb2.HandoffOffer:
        """Wait for the KV. The load counts the request, which the engine does not know yet."""
        self.instance.requests_before_engine += 1
        self.instance.report()
        try:
            return await handoff.claim()
        finally:
            self.instance.requests_before_engine -= 1

    async def _stream(
        self,
        answer: AnswerStream,
        latency: LatencyRecorder,
        request: EngineRequest,
        handoff: Handoff | None,
        timing: inference_pb2.Timing,
        context: rpc.Context,
    ) -> None:
        async with aclosing(self._outputs(request, handoff, timing)) as outputs:
            async for output in outputs:
                chunk = answer.chunk(output)
                if not latency.begun:
                    latency.begin(self.mesh.clock.now_us() / 1e3)
                if answer.finished:
                    latency.end()
                    timing.transferred_bytes = answer.transferred_bytes
                    chunk.timing.CopyFrom(timing)
                    chunk.load.CopyFrom(self.instance.load())
                if chunk.token_ids or answer.finished:
                    await context.write(chunk)
                if answer.finished:
                    return

    async def _outputs(
        self, request: EngineRequest, handoff: Handoff | None, timing: inference_pb2.Timing
    ) -> AsyncGenerator[EngineOutput, None]:
        """The engine's outputs; the first comes out of a span named for what it cost."""
        began = time.monotonic()
        name = "decode.kv_transfer" if handoff is not None else "decode.prefill"
        try:
            async with aclosing(self.instance.submit(request)) as outputs:
                with telemetry.span(
                    self.tracer, name, prompt_tokens=len(request.token_ids)
                ) as span:
                    first = await first_output(outputs, handoff)
                    span.set_attribute("transferred_bytes", first.transferred_bytes)
                if handoff is not None:
                    timing.kv_pull_ms = elapsed_ms(began)
                    await handoff.pulled()
                yield first
                async for output in outputs:
                    yield output
        except EngineRefused as error:
            raise ArgosyError(Reason.BAD_REQUEST, str(error)) from error
        except KvLost as error:
            raise ArgosyError(Reason.KV_LOST, str(error), instance=self.mesh.name) from error
        except EngineFailed as error:
            raise ArgosyError(Reason.INSTANCE_LOST, str(error), instance=self.mesh.name) from error


async def first_output(
    outputs: AsyncGenerator[EngineOutput, None], handoff: Handoff | None
) -> EngineOutput:
    """The first output, or the reason why prefill will not give the KV after all."""
    if handoff is None:
        return await anext(outputs)
    first = asyncio.ensure_future(anext(outputs))
    broken = asyncio.ensure_future(handoff.broken())
    try:
        await asyncio.wait({first, broken}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            raise broken.result()
        return await first
    finally:
        for task in (first, broken):
            task.cancel()
        await asyncio.gather(first, broken, return_exceptions=True)


def elapsed_ms(began_s: float) -> int:
    """Milliseconds since a reading of time.monotonic()."""
    return round((time.monotonic() - began_s) * 1e3)
