"""Relays requests: places them, submits their prompts, streams answers, retries elsewhere.

Concurrency: a request lives in its caller's task. The core's answer arrives through a
future per request. When the caller goes, the task is cancelled and with it the stream
from decode, which cancels everything behind it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from opentelemetry import trace

from argosy.domain.errors import NO_FAILURES, ArgosyError, Reason
from argosy.mesh import rpc, telemetry, tickets
from argosy.mesh.driver import Driver
from argosy.mesh.service import Mesh
from argosy.router.core import effects, events
from argosy.router.settings import RouterSettings
from argosy.router.shell.publisher import RouterPublisher
from argosy.router.shell.request_context import RequestContext, new_nonce
from argosy.router.shell.snapshots import Snapshots
from argosy.router.shell.submissions import PromptSubmissions
from argosy.router.shell.tokenizing import TokenizerPool
from argosy.router.shell.view import FleetView
from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.prefill.v1 import prefill_pb2_grpc
from argosy.wire.router.v1 import router_pb2


class Relay:
    """Takes requests to instances, and answers back to callers."""

    def __init__(self, mesh: Mesh[RouterSettings], pool: TokenizerPool) -> None:
        self.mesh = mesh
        self.pool = pool
        self.driver: Driver
        self._secret = mesh.settings.fleet_secret.get_secret_value().encode()
        self._placed: dict[str, asyncio.Future[effects.Dispatch]] = {}
        self._submissions = PromptSubmissions(self._connect, self.load_reported)
        self._snapshots = Snapshots(mesh)
        self._publisher = RouterPublisher(mesh)

    def start(self, driver: Driver, view: FleetView) -> None:
        """Take decisions from this core; publish the queue from now on."""
        self.driver = self._snapshots.driver = driver
        self._publisher.start(view)

    async def close(self) -> None:
        """Publish what was gathered, and close the streams to the instances."""
        self._publisher.stop()
        self._snapshots.stop()
        await self._submissions.close()

    def _connect(self, address: str) -> Any:
        return self.mesh.channels.stub(prefill_pb2_grpc.PrefillStub, address).Submit()

    def perform(self, effect: Any) -> None:
        """Carry out an effect of the core."""
        match effect:
            case effects.Dispatch():
                if (waiting := self._placed.get(effect.request_id)) and not waiting.done():
                    waiting.set_result(effect)
            case effects.Reject():
                if (waiting := self._placed.get(effect.request_id)) and not waiting.done():
                    waiting.set_exception(
                        ArgosyError(
                            Reason[effect.reason],
                            effect.message,
                            retry_after_ms=effect.retry_after_ms,
                        )
                    )
            case effects.PublishDemand():
                self._publisher.publish_demand(effect)
            case effects.TellPeerRouters():
                self._publisher.add(effect)
            case effects.AskKvSnapshot():
                self._snapshots.ask(effect)
            case effects.ForgetAddress():
                self._submissions.forget(effect.address)
                self.mesh.channels.forget(effect.address)

    async def generate(
        self, request: RequestContext
    ) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        """Stream an answer, across as many instances as it takes."""
        dispatch = await self._place(request.request_id, self._arrival(request))
        # From here on the request is ours to end; what was refused may be another's id.
        try:
            while True:
                try:
                    async with aclosing(self._attempt(request, dispatch)) as chunks:
                        async for chunk in chunks:
                            self._note(request, chunk)
                            yield chunk
                    return
                except ArgosyError as error:
                    if not error.may_succeed_elsewhere:
                        raise
                    dispatch = await self._place_again(request, dispatch, error)
        finally:
            self.driver.feed(
                events.RequestEnded(
                    now_us=self.driver.now_us(),
                    request_id=request.request_id,
                    output_tokens=len(request.produced),
                    cached_tokens=request.cached_tokens,
                )
            )

    def _note(self, request: RequestContext, chunk: inference_pb2.TokenChunk) -> None:
        """Note what a chunk says about its request."""
        if not request.produced and chunk.token_ids and not chunk.finish_reason:
            self.driver.feed(
                events.FirstTokenSeen(now_us=self.driver.now_us(), request_id=request.request_id)
            )
        request.produced.extend(chunk.token_ids)
        if chunk.HasField("timing"):
            chunk.timing.attempts = request.attempts
        if chunk.HasField("usage"):
            request.cached_tokens = chunk.usage.cached_tokens

    async def route(
        self,
        request: RequestContext,
        attempt: int,
        failed_instance: str,
        failed_address: str,
        failed_reason: str,
        failures: int = 0,
    ) -> router_pb2.RouteReply:
        """Place a request, and give the caller a ticket.

        The prompt goes to the instance that prefills: to a prefill instance from here, now; to
        decode from the caller, with the ticket.

        An instance that does not take the prompt costs the caller nothing: another is
        asked, under the same attempt, which is the caller's to count.
        """
        refused = 0
        while True:
            arrived = self._arrival(
                request, attempt, failed_instance, failed_address, failed_reason, failures
            )
            dispatch = await self._place(request.request_id, arrived)
            prompt = None
            if is_local(dispatch):
                prompt = request.prompt(dispatch.attempt, dispatch.prefill_rank)
            try:
                if prompt is None:
                    await self._submit(request, dispatch)
            except ArgosyError as error:
                refused += error.reason not in NO_FAILURES
                if not error.may_succeed_elsewhere or refused >= self.mesh.settings.attempts_max:
                    raise
                failed_instance, failed_address = dispatch.prefill, dispatch.prefill_address
                failed_reason = error.reason.name
                request.nonce = new_nonce()
                continue
            return router_pb2.RouteReply(
                request_id=request.request_id,
                ticket=self._ticket(request, dispatch),
                prompt=prompt,
                decode_address=dispatch.decode_address,
                decode_instance=dispatch.decode,
            )

    def _arrival(
        self,
        request: RequestContext,
        attempt: int | None = None,
        failed_instance: str = "",
        failed_address: str = "",
        failed_reason: str = "",
        failures: int = 0,
    ) -> events.RequestArrived:
        return events.RequestArrived(
            now_us=self.driver.now_us(),
            request_id=request.request_id,
            model=request.model,
            prompt_tokens=len(request.prompt_ids) + len(request.produced),
            max_tokens=request.sampling.max_tokens,
            deadline_us=request.deadline_us,
            attempt=attempt or 0,
            direct=attempt is not None,
            failed_instance=failed_instance,
            failed_address=failed_address,
            failed_reason=failed_reason,
            blocks=request.blocks,
            tenant=request.tenant,
            priority=request.priority,
            failures=failures,
        )

    async def _place(self, request_id: str, event: Any) -> effects.Dispatch:
        """Feed an event that ends in a Dispatch or Reject of this request, and await it."""
        if request_id in self._placed:
            raise ArgosyError(Reason.BAD_REQUEST, f"request id {request_id} is in use")
        waiting = self._placed[request_id] = asyncio.get_running_loop().create_future()
        try:
            with telemetry.span(self.mesh.tracer, "router.place") as span:
                self.driver.feed(event)
                dispatch: effects.Dispatch = await waiting
                span.set_attribute("decode", dispatch.decode)
                span.set_attribute("prefill", dispatch.prefill)
                span.set_attribute("why", dispatch.why)
                return dispatch
        except asyncio.CancelledError:
            self.driver.feed(
                events.RequestEnded(now_us=self.driver.now_us(), request_id=request_id)
            )
            raise
        finally:
            del self._placed[request_id]

    async def _place_again(
        self, request: RequestContext, failed: effects.Dispatch, error: ArgosyError
    ) -> effects.Dispatch:
        request.attempts += 1
        span = trace.get_current_span()
        span.add_event("re-route", {"instance": error.instance, "reason": error.reason.name})
        produced = 0 if request.regenerates else len(request.produced)
        failure = events.AttemptFailed(
            now_us=self.driver.now_us(),
            request_id=request.request_id,
            attempt=failed.attempt,
            reason=error.reason.name,
            message=error.message,
            instance=error.instance,
            prompt_tokens=len(request.prompt_ids) + produced,
        )
        return await self._place(request.request_id, failure)

    async def _attempt(
        self, request: RequestContext, dispatch: effects.Dispatch
    ) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        generate = decode_pb2.GenerateRequest(ticket=self._ticket(request, dispatch))
        if is_local(dispatch):
            generate.prompt.CopyFrom(request.prompt(dispatch.attempt, dispatch.prefill_rank))
        else:
            await self._submit(request, dispatch)
        stub = self.mesh.channels.stub(decode_pb2_grpc.DecodeStub, dispatch.decode_address)
        timeout_s = max(0.001, (request.deadline_us - self.driver.now_us()) / 1e6)
        answer = rpc.stream(
            stub.Generate,
            generate,
            timeout_s=timeout_s,
            instance=dispatch.decode,
            last=lambda chunk: bool(chunk.finish_reason),
        )
        async with aclosing(answer) as chunks:
            async for chunk in chunks:
                if chunk.HasField("load"):
                    self.load_reported(chunk.load)
                yield chunk
                if chunk.finish_reason:
                    return
        raise ArgosyError(Reason.INSTANCE_LOST, "the answer broke off", instance=dispatch.decode)

    async def _submit(self, request: RequestContext, dispatch: effects.Dispatch) -> None:
        prompt = request.prompt(dispatch.attempt, dispatch.prefill_rank, telemetry.traceparent())
        await self._submissions.submit(prompt, dispatch.prefill, dispatch.prefill_address)

    def _ticket(
        self, request: RequestContext, dispatch: effects.Dispatch
    ) -> inference_pb2.SignedTicket:
        now_ms = self.driver.now_us() // 1000
        ticket = inference_pb2.Ticket(
            request_id=request.instance_request_id,
            attempt=dispatch.attempt,
            model=request.model,
            prefill_instance=dispatch.prefill,
            prefill_address=dispatch.prefill_address,
            decode_instance=dispatch.decode,
            decode_address=dispatch.decode_address,
            blocks_digest=request.blocks_digest,
            max_tokens=request.sampling.max_tokens,
            issued_ms=now_ms,
            expires_ms=now_ms + round(self.mesh.settings.ticket_s * 1e3),
            decode_dp_rank=dispatch.decode_rank,
        )
        return tickets.sign(ticket, self._secret)

    def load_reported(self, load: inference_pb2.Load) -> None:
        """Feed the core a load report, from the bus or from a reply."""
        self.driver.feed(
            events.LoadReported(
                now_us=self.driver.now_us(),
                instance=load.instance_id,
                epoch=load.epoch,
                ranks=[
                    events.RankLoad(
                        rank.running_requests,
                        rank.waiting_requests,
                        rank.queued_prefill_tokens,
                        rank.kv_used_blocks,
                    )
                    for rank in load.ranks or (load,)
                ],
                at_us=load.at_us,
                kv_held_blocks=load.kv_held_blocks,
                step_us=load.step_us,
                serving=not load.not_serving,
                change=load.change,
            )
        )


def is_local(dispatch: effects.Dispatch) -> bool:
    """Whether decode prefills it itself."""
    return dispatch.prefill == dispatch.decode
