"""The client: relayed by the router, or streamed directly from decode."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context

from argosy.domain.errors import NO_FAILURES, ArgosyError, Reason
from argosy.mesh import rpc, telemetry
from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc

ROUTES_MAX = 5


@dataclass
class Answer:
    """A whole answer."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str = ""
    usage: inference_pb2.Usage = field(default_factory=inference_pb2.Usage)
    timing: inference_pb2.Timing = field(default_factory=inference_pb2.Timing)

    def add(self, chunk: inference_pb2.TokenChunk) -> None:
        """Take in the next piece."""
        self.text += chunk.text
        self.token_ids.extend(chunk.token_ids)
        if chunk.finish_reason:
            name = inference_pb2.FinishReason.Name(chunk.finish_reason)
            self.finish_reason = name.removeprefix("FINISH_REASON_").lower()
            self.usage.CopyFrom(chunk.usage)
            self.timing.CopyFrom(chunk.timing)


class Client:
    """Talks to a router at host:port.

    direct: stream from decode, so that the router spends nothing per token.
    All methods raise ArgosyError with its reason.
    """

    def __init__(
        self, address: str, *, direct: bool = False, tracer: trace.Tracer | None = None
    ) -> None:
        self._direct = direct
        self._tracer = tracer or trace.get_tracer("argosy.client")
        self._channels = rpc.Channels()
        self._router = router_pb2_grpc.RouterStub(self._channels.get(address))
        self.last_trace_id = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up everywhere."""
        await self._channels.close()

    async def models(self) -> list[str]:
        """Names of the models that can be asked for."""
        request = router_pb2.ListModelsRequest()
        reply = await rpc.call(self._router.ListModels, request, timeout_s=10)
        return [model.name for model in reply.models]

    async def status(self) -> router_pb2.StatusReply:
        """What the router believes of the fleet."""
        reply = await rpc.call(self._router.Status, router_pb2.StatusRequest(), timeout_s=10)
        assert isinstance(reply, router_pb2.StatusReply)
        return reply

    async def generate(
        self,
        model: str,
        *,
        text: str | None = None,
        token_ids: Sequence[int] | None = None,
        messages: Sequence[dict[str, Any]] | None = None,
        request_id: str = "",
        tenant: str = "",
        priority: router_pb2.Priority = router_pb2.PRIORITY_UNSPECIFIED,
        timeout_s: float = 600,
        **sampling: Any,
    ) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        """Stream an answer to one of text, token_ids or messages.

        sampling: fields of the contract's Sampling (max_tokens is required).
        priority: a value of the contract's Priority.
        Closing the iterator cancels the request everywhere.
        """
        request = router_pb2.GenerateRequest(
            model=model,
            request_id=request_id,
            tenant=tenant,
            priority=priority,
            sampling=inference_pb2.Sampling(**sampling),
        )
        if text is not None:
            request.text = text
        elif token_ids is not None:
            request.tokens.ids.extend(token_ids)
        elif messages is not None:
            request.chat.messages_json = json.dumps(list(messages))
        way = self._direct_chunks if self._direct else self._relayed_chunks
        with telemetry.detached_span(self._tracer, "client.generate") as context:
            span = trace.get_current_span(context).get_span_context()
            self.last_trace_id = trace.format_trace_id(span.trace_id)
            async with aclosing(way(request, timeout_s, context)) as chunks:
                async for chunk in chunks:
                    yield chunk
                    if chunk.finish_reason:
                        return
        raise ArgosyError(Reason.INSTANCE_LOST, "the answer broke off: ask again")

    async def answer(self, model: str, **arguments: Any) -> Answer:
        """A whole answer; arguments as for `generate`."""
        answer = Answer()
        async with aclosing(self.generate(model, **arguments)) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
        return answer

    async def _relayed_chunks(
        self, request: router_pb2.GenerateRequest, timeout_s: float, context: Context
    ) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        answer = rpc.stream(
            self._router.Generate,
            request,
            timeout_s=timeout_s,
            trace_context=context,
            last=lambda reply: bool(reply.chunk.finish_reason),
        )
        async with aclosing(answer) as replies:
            async for reply in replies:
                yield reply.chunk

    async def _direct_chunks(
        self, request: router_pb2.GenerateRequest, timeout_s: float, context: Context
    ) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        """Route, stream, and route again with what was produced when decode fails."""
        route = router_pb2.RouteRequest(request=request)
        while True:
            reply = await rpc.call(
                self._router.Route, route, timeout_s=timeout_s, trace_context=context
            )
            route.request.request_id = reply.request_id
            stub = self._channels.stub(decode_pb2_grpc.DecodeStub, reply.decode_address)
            ticket = decode_pb2.GenerateRequest(ticket=reply.ticket)
            if reply.HasField("prompt"):
                ticket.prompt.CopyFrom(reply.prompt)
            answer = rpc.stream(
                stub.Generate,
                ticket,
                timeout_s=timeout_s,
                instance=reply.decode_instance,
                trace_context=context,
                last=lambda chunk: bool(chunk.finish_reason),
            )
            before = len(route.produced_token_ids)
            try:
                async with aclosing(answer) as chunks:
                    async for chunk in chunks:
                        route.produced_token_ids.extend(chunk.token_ids)
                        if chunk.HasField("timing"):
                            chunk.timing.attempts = route.attempt + 1
                        yield chunk
                        if chunk.finish_reason:
                            return
            except ArgosyError as error:
                brought = len(route.produced_token_ids)
                route.failures = 0 if brought > before else route.failures
                route.failures += error.reason not in NO_FAILURES
                if not error.may_succeed_elsewhere or route.failures >= ROUTES_MAX:
                    raise
                route.attempt += 1
                at_decode = error.instance == reply.decode_instance
                route.failed_instance = error.instance if at_decode else ""
                route.failed_address = reply.decode_address if at_decode else ""
                route.failed_reason = error.reason.name if at_decode else ""
