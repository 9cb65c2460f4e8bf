"""HTTP plumbing: body limit, JSON and event streams, cancellation when the caller goes.

Every completion runs beside a watch on the connection: a caller that hangs up cancels
the work at once, whether or not anything was being sent.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import rpc, telemetry
from argosy.mesh.service import Mesh
from argosy.router.settings import RouterSettings
from argosy.router.shell.openai.endpoints import Endpoints, PreparedCompletion
from argosy.router.shell.openai.replies import error_body, retry_after_s
from argosy.router.shell.relay import Relay
from argosy.router.shell.validation import RequestValidator
from argosy.router.shell.view import FleetView

log = logging.getLogger(__name__)

TENANT_HEADER = "x-argosy-tenant"
CONNECTIONS_MAX = 4096


class UvicornServer(uvicorn.Server):
    """uvicorn, inside a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


class Completion:
    """An ASGI endpoint for one kind of completion. `ask` checks and tokenizes a body."""

    def __init__(self, http: "HttpServer", name: str, ask: Callable[[bytes, str], Any]) -> None:
        self._http = http
        self._name = name
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        parent = telemetry.extract(request.headers.items())
        try:
            body = await read_body(request, self._http.mesh.settings.body_bytes_max)
        except ClientDisconnect:
            return
        except ArgosyError as error:
            await error_response(error)(scope, receive, send)
            return
        span = telemetry.span(self._http.mesh.tracer, self._name, parent)
        # The caller has its answer by then, and the span has the error too.
        with contextlib.suppress(ArgosyError), span:
            headers = {"x-argosy-trace": rpc.trace_id()}
            tenant = request.headers.get(TENANT_HEADER, "")
            work = self._answer(body, tenant, headers, scope, receive, send)
            await while_connected(work, receive)

    async def _answer(
        self,
        body: bytes,
        tenant: str,
        headers: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        try:
            self._http.mesh.check_ready(retry_after_ms=1000)
            completion = await self._ask(body, tenant)
            if completion.request.stream:
                await self._stream(completion, headers, scope, receive, send)
                return
            reply = await self._http.endpoints.whole(completion)
            await JSONResponse(reply, headers=headers)(scope, receive, send)
        except ArgosyError as error:
            await error_response(error, headers)(scope, receive, send)
            raise
        except Exception as error:
            log.exception("%s failed", self._name)
            failure = self._internal(error)
            await error_response(failure, headers)(scope, receive, send)
            raise failure from error

    def _internal(self, error: Exception) -> ArgosyError:
        return ArgosyError(Reason.INTERNAL, f"{self._name}: {error!r}")

    async def _stream(
        self,
        completion: PreparedCompletion,
        headers: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        async with contextlib.aclosing(self._http.endpoints.events(completion)) as events:
            # Until the first event the answer may still be an error with a status.
            first = await anext(events)
            await start_events(send, headers)
            await send_event(send, first)
            try:
                async for event in events:
                    await send_event(send, event)
                await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
            # The status is sent: an error can only be reported as the last event.
            except ArgosyError as error:
                log.warning("a stream broke off: %s", error.message)
                await send_event(send, error_body(error), more=False)
            except Exception as error:
                log.exception("%s failed", self._name)
                await send_event(send, error_body(self._internal(error)), more=False)


class HttpServer:
    """OpenAI's endpoints, /healthz and /livez."""

    def __init__(
        self, mesh: Mesh[RouterSettings], validator: RequestValidator, relay: Relay, view: FleetView
    ) -> None:
        self.mesh = mesh
        self.endpoints = Endpoints(validator, relay)
        self._view = view
        self._task: asyncio.Task[None] | None = None
        chat = Completion(self, "http.chat", self.endpoints.chat)
        plain = Completion(self, "http.completion", self.endpoints.completion)
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", chat, methods=["POST"]),
                Route("/v1/completions", plain, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/healthz", self._healthz),
                Route("/livez", lambda request: PlainTextResponse("alive\n")),
            ],
            exception_handlers={404: not_found, 405: not_found},
        )
        host, _, port = mesh.settings.http_listen.rpartition(":")
        self._server = UvicornServer(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                log_level="warning",
                lifespan="off",
                limit_concurrency=CONNECTIONS_MAX,
                timeout_graceful_shutdown=5,
            )
        )

    async def start(self) -> None:
        """Listen. Raises ArgosyError when the port is taken."""
        config = self._server.config
        try:
            # Bound here, because uvicorn ends the process when it cannot bind.
            listener = await asyncio.to_thread(bind, config.host, config.port)
        except OSError as error:
            raise ArgosyError(
                Reason.NOT_READY,
                f"cannot listen on {self.mesh.settings.http_listen}: {error.strerror}. "
                "Stop what holds the port, or choose another",
            ) from error
        log.info("OpenAI HTTP on http://%s:%d/v1", *listener.getsockname()[:2])
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Close connections and stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def _healthz(self, request: Request) -> Response:
        if trouble := self._view.trouble():
            return PlainTextResponse(f"{trouble}\n", status_code=503)
        # Control facts that fail now that it serves are no reason to stop, but are shown.
        return PlainTextResponse("\n".join(["ok", *self.mesh.bus.troubles(), ""]))

    async def _models(self, request: Request) -> Response:
        data = [model_body(m.name, m.max_model_tokens) for m in self._view.models()]
        return JSONResponse({"object": "list", "data": data})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        for model in self._view.models():
            if model.name == name:
                return JSONResponse(model_body(name, model.max_model_tokens))
        return error_response(
            ArgosyError(Reason.MODEL_NOT_FOUND, f"no model '{name}' here", param="model")
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket."""
    return socket.create_server((host, port), backlog=1024)


def model_body(name: str, max_model_tokens: int) -> dict[str, Any]:
    """A model as OpenAI lists it, with its context as other servers add it."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "argosy",
        "max_model_len": max_model_tokens,
    }


async def not_found(request: Request, error: Exception) -> Response:
    """Any other path or method."""
    status = getattr(error, "status_code", 404)
    message = f"{request.method} {request.url.path} is not served here; see /v1/models"
    body = error_body(ArgosyError(Reason.BAD_REQUEST, message))
    return JSONResponse(body, status_code=status)


def error_response(error: ArgosyError, headers: dict[str, str] | None = None) -> Response:
    """An error with its HTTP status and, if it says when to retry, the header for it."""
    headers = dict(headers or {})
    if seconds := retry_after_s(error):
        headers["retry-after"] = str(seconds)
    return JSONResponse(error_body(error), error.reason.value.http, headers)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body. Raises BODY_TOO_LARGE without reading on."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise ArgosyError(
                Reason.BODY_TOO_LARGE, f"the body is over {limit_bytes} bytes; send less"
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def while_connected(work: Any, receive: Receive) -> None:
    """Run `work` to its end, or until the caller hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def hung_up(receive: Receive) -> None:
    """Return when the connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def start_events(send: Send, headers: dict[str, str]) -> None:
    """Begin a stream of server-sent events."""
    pairs = {"content-type": "text/event-stream", "cache-control": "no-cache", **headers}
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})


async def send_event(send: Send, event: Any, *, more: bool = True) -> None:
    """One server-sent event."""
    data = b"data: " + msgspec.json.encode(event) + b"\n\n"
    await send({"type": "http.response.body", "body": data, "more_body": more})
