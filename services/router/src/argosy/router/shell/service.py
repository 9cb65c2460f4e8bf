"""The router service: gRPC and HTTP in front, the core in the middle, facts from behind."""

from contextlib import aclosing
from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import rpc
from argosy.mesh.service import Mesh
from argosy.router.core.state import RouterLimits, new_state
from argosy.router.policies import SPEC
from argosy.router.settings import RouterSettings
from argosy.router.shell.openai.server import HttpServer
from argosy.router.shell.relay import Relay
from argosy.router.shell.subscriptions import RouterSubscriptions
from argosy.router.shell.tokenizing import TokenizerPool
from argosy.router.shell.validation import RequestValidator
from argosy.router.shell.view import FleetView
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc


class RouterService(router_pb2_grpc.RouterServicer):
    """Serves Generate, Route, ListModels, Status, and OpenAI's HTTP API."""

    def __init__(self, mesh: Mesh[RouterSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        settings = mesh.settings
        self._pool = TokenizerPool(
            settings.model_source,
            settings.model,
            settings.block_tokens,
            settings.tokenizer_processes,
        )
        self.relay = Relay(mesh, self._pool)
        state = new_state(limits_of(settings))
        self.driver = self.relay.driver = mesh.drive(SPEC, state, self.relay.perform)
        self.validator = RequestValidator(mesh, self.relay, state.models)
        self.view = FleetView(mesh, state)
        self._subscriptions = RouterSubscriptions(mesh, self.driver, self.relay)
        self._http = HttpServer(mesh, self.validator, self.relay, self.view)
        descriptor = router_pb2.DESCRIPTOR.services_by_name["Router"]
        mesh.server.add(router_pb2_grpc.add_RouterServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Tokenizers, HTTP, and what the control log knows of the fleet."""
        self.mesh.wait_for(f"the tokenizer of {self.mesh.settings.model}")
        await self._pool.start()
        await self._http.start()
        self.relay.start(self.driver, self.view)
        await self.mesh.wait_for_bus()
        self.mesh.wait_for("the fleet's control log")
        await self._subscriptions.start()

    async def drain(self) -> None:
        """Wait until no request is under way."""
        await self.view.until_idle()

    async def stop(self) -> None:
        """End the tokenizers and the HTTP server."""
        await self._http.stop()
        await self.relay.close()
        self._pool.stop()

    @rpc.handler("router.generate")
    async def Generate(self, request: router_pb2.GenerateRequest, context: rpc.Context) -> None:
        """Relay an answer."""
        self.mesh.check_ready()
        request_context = await self.validator.validate(request, context.time_remaining())
        async with aclosing(self.relay.generate(request_context)) as chunks:
            request_id = request_context.request_id
            async for chunk in chunks:
                await context.write(router_pb2.GenerateChunk(request_id=request_id, chunk=chunk))
                request_id = ""

    @rpc.handler("router.route")
    async def Route(
        self, request: router_pb2.RouteRequest, context: rpc.Context
    ) -> router_pb2.RouteReply:
        """Give a ticket for an answer to be streamed from decode."""
        self.mesh.check_ready()
        request_context = await self.validator.validate(request.request, context.time_remaining())
        request_context.produced = list(request.produced_token_ids)
        if len(request_context.produced) >= request_context.sampling.max_tokens:
            raise ArgosyError(
                Reason.BAD_REQUEST, "produced_token_ids holds max_tokens already: nothing to do"
            )
        return await self.relay.route(
            request_context,
            request.attempt,
            request.failed_instance,
            request.failed_address,
            request.failed_reason,
            request.failures,
        )

    @rpc.handler("router.list_models", traced=False)
    async def ListModels(self, request: Any, context: Any) -> router_pb2.ListModelsReply:
        """Every model that can be asked for, those at zero instances included."""
        return router_pb2.ListModelsReply(models=self.view.models())

    @rpc.handler("router.status", traced=False)
    async def Status(self, request: Any, context: Any) -> router_pb2.StatusReply:
        """What this router believes."""
        return self.view.status()


def limits_of(settings: RouterSettings) -> RouterLimits:
    """What the core is to keep to."""
    return RouterLimits(
        queue_limit=settings.queue_limit,
        attempts_max=settings.attempts_max,
        stale_us=round(settings.stale_s * 1e6),
        wait_us=round(settings.queue_timeout_s * 1e6),
        policy=settings.policy,
        tenant_queue_limit=settings.tenant_queue_limit,
        ttft_limit_us=round(settings.ttft_limit_s * 1e6),
        index_blocks_max=settings.index_blocks_max,
        queue_bytes_max=settings.queue_bytes_max,
    )
