"""gRPC both ways: servers with health and reflection, calls with deadlines and traces.

Handlers are wrapped by `unary` and `stream`: each gets a span that continues the
caller's trace, and an ArgosyError becomes a status with its reason. A caller that
hangs up cancels the handler's task, which is how cancellation reaches every stage.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry import trace
from opentelemetry.context import Context as TraceContext

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import telemetry
from argosy.mesh.channels import MESSAGE_BYTES as MESSAGE_BYTES
from argosy.mesh.channels import OPTIONS
from argosy.mesh.channels import Channels as Channels
from argosy.mesh.rpc_errors import from_rpc, status_code, trailers

log = logging.getLogger(__name__)

STATUS_BYTES = 2048
"""Of an error's message: gRPC carries it in a header, 8 KiB in all, up to three for one."""
WAITING_KEY = "argosy-waiting-for"
END_S = 1.0
"""A peer ends a call right after its last reply; one that does not in a second hangs."""
PENDING_MAX = 1 << 14
"""More calls than a burst begins while the event loop is busy."""
SERVER_OPTIONS = (
    *OPTIONS,
    # Beyond a thousand calls not begun yet gRPC cancels some at random, without a word.
    ("grpc.server.max_pending_requests", PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What a handler knows of its call."""

Handler = Callable[[Any, Any, Context], Awaitable[Any]]


def handler(name: str, *, traced: bool = True) -> Callable[[Handler], Handler]:
    """Wrap a servicer's method; it may return a reply or `await context.write(...)`.

    The servicer must have a `tracer`. traced=False is for what is asked again and again.
    """

    def wrap(method: Handler) -> Handler:
        async def call(self: Any, request: Any, context: Context) -> Any:
            parent = telemetry.extract(context.invocation_metadata())
            try:
                if not traced:
                    return await method(self, request, context)
                with telemetry.span(self.tracer, name, parent):
                    return await method(self, request, context)
            except ArgosyError as error:
                await abort(context, error)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                log.exception("%s failed", name)
                await abort(context, ArgosyError(Reason.INTERNAL, f"{name}: {error!r}"))

        return call

    return wrap


async def abort(context: Context, error: ArgosyError) -> None:
    """End a call with `error`'s status and reason."""
    message = error.message.encode(errors="replace")[:STATUS_BYTES].decode(errors="ignore")
    await context.abort(status_code(error), message, trailers(error))


class HealthWithReason(health.aio.HealthServicer):  # type: ignore[misc]
    """gRPC's health service, which says in trailing metadata why it is not SERVING."""

    def __init__(self, reason: Callable[[], str]) -> None:
        super().__init__()
        self._reason = reason

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802 - gRPC's name
        """As in the health protocol; WAITING_KEY says what the process waits for."""
        if reason := self._reason():
            text = reason.encode("ascii", "replace")[:STATUS_BYTES].decode()
            context.set_trailing_metadata(((WAITING_KEY, text.replace("\n", " ")),))
        return await super().Check(request, context)


class GrpcServer:
    """A gRPC server that reports NOT_SERVING until told otherwise.

    reason: says why it is not serving; empty when it is.
    """

    def __init__(self, reason: Callable[[], str] = str) -> None:
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._health = HealthWithReason(reason)
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = 0

    def add(self, register: Callable[[Any, Any], None], servicer: Any, descriptor: Any) -> None:
        """Serve `servicer`; `descriptor` is its service's descriptor."""
        register(servicer, self._server)
        self._names.append(descriptor.full_name)

    async def start(self, address: str) -> None:
        """Listen on host:port; port 0 takes a free one. `port` says which.

        Raises ArgosyError when the port is taken.
        """
        reflection.enable_server_reflection(self._names, self._server)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ArgosyError(
                Reason.NOT_READY,
                f"cannot listen on {address}: the port is in use or not ours to take. "
                "Stop what holds it, or choose another (0 takes any free port)",
            ) from error
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """What health checks are told from now on, for every service here."""
        status = health_pb2.HealthCheckResponse
        value = status.SERVING if serving else status.NOT_SERVING
        for name in ["", *self._names]:
            await self._health.set(name, value)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give running ones `grace_s`, then cancel them."""
        await self._server.stop(grace_s)


async def call(
    method: Any,
    request: Any,
    *,
    timeout_s: float,
    instance: str = "",
    trace_context: TraceContext | None = None,
) -> Any:
    """One unary call in a trace (the current one). Raises ArgosyError, blaming `instance`."""
    try:
        return await method(request, timeout=timeout_s, metadata=telemetry.inject(trace_context))
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, instance) from None


async def stream(
    method: Any,
    request: Any,
    *,
    timeout_s: float,
    instance: str = "",
    trace_context: TraceContext | None = None,
    last: Callable[[Any], bool] = lambda reply: False,
) -> AsyncGenerator[Any, None]:
    """One streaming call in a trace (the current one); closing the iterator hangs up.

    last: whether a reply is the last one. After it the peer is given END_S to end the
    call itself: to the peer a finished call that is hung up looks like a caller gone.
    """
    running = method(request, timeout=timeout_s, metadata=telemetry.inject(trace_context))
    over = False
    try:
        async for reply in running:
            over = last(reply)
            yield reply
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, instance) from None
    finally:
        if over:
            patience = asyncio.get_running_loop().call_later(END_S, running.cancel)
            await running.code()
            patience.cancel()
        running.cancel()


def trace_id() -> str:
    """The current trace's id as 32 hex digits."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
