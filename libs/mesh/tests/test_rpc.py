"""gRPC both ways, over a real server: errors, deadlines, hang-ups and traces get across."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry import trace

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import channels as channels_module
from argosy.mesh import rpc, telemetry
from argosy.mesh.ports import free_port
from argosy.mesh.rpc import Channels, GrpcServer, handler
from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc
from argosy.wire.inference.v1.inference_pb2 import TokenChunk
from argosy.wire.node_agent.v1 import node_agent_pb2, node_agent_pb2_grpc
from argosy.wire.node_agent.v1.node_agent_pb2 import ListProcessesReply, ListProcessesRequest

HealthStatus = health_pb2.HealthCheckResponse


class EchoNode(node_agent_pb2_grpc.NodeAgentServicer, decode_pb2_grpc.DecodeServicer):
    """Does what the test wants inside a handler."""

    def __init__(self) -> None:
        self.tracer: trace.Tracer = trace.NoOpTracer()
        self.behave: Callable[..., Awaitable[Any]] = self._reply

    @handler("list")
    async def ListProcesses(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return await self.behave(context)

    @handler("generate")
    async def Generate(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        await self.behave(context)

    async def _reply(self, context: Any) -> ListProcessesReply:
        return ListProcessesReply(node="here")


class Line:
    """A server with a Node behind it, and a channel to it."""

    def __init__(self) -> None:
        self.node = EchoNode()
        self.server = GrpcServer()
        self.channels = Channels()
        services = node_agent_pb2.DESCRIPTOR.services_by_name
        self.server.add(
            node_agent_pb2_grpc.add_NodeAgentServicer_to_server, self.node, services["NodeAgent"]
        )
        services = decode_pb2.DESCRIPTOR.services_by_name
        self.server.add(decode_pb2_grpc.add_DecodeServicer_to_server, self.node, services["Decode"])

    @property
    def channel(self) -> grpc.aio.Channel:
        return self.channels.get(f"127.0.0.1:{self.server.port}")

    async def call(self, timeout_s: float = 20) -> ListProcessesReply:
        method = node_agent_pb2_grpc.NodeAgentStub(self.channel).ListProcesses
        return await rpc.call(method, ListProcessesRequest(), timeout_s=timeout_s, instance="them")

    def stream(self, timeout_s: float = 20, **options: Any) -> AsyncIterator[TokenChunk]:
        method = decode_pb2_grpc.DecodeStub(self.channel).Generate
        request = decode_pb2.GenerateRequest()
        return rpc.stream(method, request, timeout_s=timeout_s, instance="them", **options)

    async def health(self, service: str = "") -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return (await health_pb2_grpc.HealthStub(self.channel).Check(request)).status


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    await made.server.start("127.0.0.1:0")
    yield made
    await made.channels.close()
    await made.server.stop(grace_s=0)


async def failure(work: Awaitable[Any]) -> ArgosyError:
    with pytest.raises(ArgosyError) as failed:
        await work
    return failed.value


async def drain(stream: AsyncIterator[Any]) -> list[Any]:
    return [reply async for reply in stream]


def raising(error: BaseException) -> Callable[..., Awaitable[Any]]:
    async def behave(context: Any) -> None:
        raise error

    return behave


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
async def test_every_reason_comes_out_as_it_went_in(line: Line, reason: Reason) -> None:
    error = ArgosyError(
        reason, "what happened: naïve 50 %\nand more", retry_after_ms=125, param="n"
    )
    line.node.behave = raising(error)

    for attempt in (line.call(), drain(line.stream())):
        got = await failure(attempt)
        assert (got.reason, got.message) == (reason, error.message)
        assert (got.retry_after_ms, got.instance, got.param) == (125, "them", "n")


async def test_whoever_is_named_at_fault_stays_so_through_a_relay(line: Line) -> None:
    lost = ArgosyError(Reason.INSTANCE_LOST, "gone", instance="prefill-3")
    line.node.behave = raising(lost)
    assert (await failure(line.call())).instance == "prefill-3"


async def test_a_long_message_is_cut_rather_than_lost(line: Line) -> None:
    line.node.behave = raising(ArgosyError(Reason.BAD_REQUEST, "the schema é" * 10_000))
    got = await failure(line.call())
    assert got.reason is Reason.BAD_REQUEST
    assert got.message.startswith("the schema é")


async def test_a_defect_in_a_handler_is_internal_and_names_the_call(line: Line) -> None:
    line.node.behave = raising(ZeroDivisionError("oh"))
    got = await failure(line.call())
    assert got.reason is Reason.INTERNAL
    assert got.message.startswith("list: ZeroDivisionError")


async def test_nobody_listening_is_instance_lost_at_the_callees_fault(line: Line) -> None:
    await line.server.stop(grace_s=0)
    got = await failure(line.call())
    assert (got.reason, got.instance) == (Reason.INSTANCE_LOST, "them")


async def test_a_server_that_goes_mid_stream_is_instance_lost(line: Line) -> None:
    async def behave(context: Any) -> None:
        await context.write(TokenChunk(text="a"))
        await asyncio.Event().wait()

    line.node.behave = behave
    stream = line.stream()
    assert (await anext(stream)).text == "a"
    await line.server.stop(grace_s=0)
    got = await failure(anext(stream))
    assert (got.reason, got.instance) == (Reason.INSTANCE_LOST, "them")


async def test_the_deadline_reaches_the_handler_and_ends_the_call(line: Line) -> None:
    await line.call()
    remaining: list[float] = []
    cancelled = asyncio.Event()

    async def behave(context: Any) -> None:
        remaining.append(context.time_remaining())
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    line.node.behave = behave
    assert (await failure(line.call(timeout_s=0.5))).reason is Reason.DEADLINE
    await asyncio.wait_for(cancelled.wait(), 20)
    assert 0 < remaining[0] < 0.6


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_caller_that_hangs_up_cancels_the_handler(line: Line, kind: str) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def behave(context: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    line.node.behave = behave
    calling = asyncio.ensure_future(line.call() if kind == "unary" else drain(line.stream()))
    await asyncio.wait_for(entered.wait(), 20)
    calling.cancel()
    await asyncio.wait_for(cancelled.wait(), 20)
    with contextlib.suppress(asyncio.CancelledError):
        await calling


async def test_closing_a_stream_half_way_cancels_the_handler(line: Line) -> None:
    cancelled = asyncio.Event()

    async def behave(context: Any) -> None:
        try:
            while True:
                await context.write(TokenChunk(text="more"))
        finally:
            cancelled.set()

    line.node.behave = behave
    async with contextlib.aclosing(line.stream()) as stream:
        assert (await anext(stream)).text == "more"
    await asyncio.wait_for(cancelled.wait(), 20)


async def test_a_stream_closed_after_its_last_reply_is_finished_not_hung_up_on(line: Line) -> None:
    ended: list[str] = []

    async def behave(context: Any) -> None:
        try:
            await context.write(TokenChunk(text="last"))
            await asyncio.sleep(0)
            ended.append("finished")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    line.node.behave = behave
    stream = line.stream(last=lambda reply: reply.text == "last")
    async with contextlib.aclosing(stream) as replies:
        assert (await anext(replies)).text == "last"
    assert ended == ["finished"]


async def test_the_callers_trace_goes_on_in_the_handler(line: Line, tmp_path: Path) -> None:
    traces = telemetry.start_telemetry("node", "node-1", traces_dir=tmp_path)
    line.node.tracer = traces.tracer
    with telemetry.span(traces.tracer, "caller"):
        await line.call()
    traces.close()

    lines = (tmp_path / "node-1.spans.jsonl").read_text().splitlines()
    spans = {span["name"]: span for span in map(json.loads, lines)}
    assert spans["list"]["trace_id"] == spans["caller"]["trace_id"]
    assert spans["list"]["parent_id"] == spans["caller"]["span_id"]


async def test_how_a_call_failed_stands_in_its_span(line: Line, tmp_path: Path) -> None:
    traces = telemetry.start_telemetry("node", "node-1", traces_dir=tmp_path)
    line.node.tracer = traces.tracer
    line.node.behave = raising(ArgosyError(Reason.OVERLOADED, "full"))
    await failure(line.call())
    traces.close()

    last = (tmp_path / "node-1.spans.jsonl").read_text().splitlines()[-1]
    span = json.loads(last)
    assert (span["status"], span["error"]) == ("ERROR", "OVERLOADED: full")


async def test_health_is_not_serving_until_told_and_after_it_is_taken_back(line: Line) -> None:
    async def healths() -> set[int]:
        services = ("", "argosy.decode.v1.Decode", "argosy.node_agent.v1.NodeAgent")
        return {await line.health(name) for name in services}

    assert await healths() == {HealthStatus.NOT_SERVING}
    await line.server.set_serving(True)
    assert await healths() == {HealthStatus.SERVING}
    await line.server.set_serving(False)
    assert await healths() == {HealthStatus.NOT_SERVING}


async def test_reflection_lists_every_service(line: Line) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(line.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    replies = [reply async for reply in stub.ServerReflectionInfo(iter([request]))]
    assert {service.name for service in replies[0].list_services_response.service} == {
        "argosy.decode.v1.Decode",
        "argosy.node_agent.v1.NodeAgent",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_a_port_in_use_is_named_with_the_remedy(line: Line) -> None:
    address = f"127.0.0.1:{line.server.port}"
    got = await failure(GrpcServer().start(address))
    assert got.reason is Reason.NOT_READY
    assert got.message.startswith(f"cannot listen on {address}: the port is in use")


async def test_a_message_over_the_limit_is_refused_as_too_large(line: Line) -> None:
    async def behave(context: Any) -> ListProcessesReply:
        return ListProcessesReply(node="x" * (rpc.MESSAGE_BYTES + 1))

    line.node.behave = behave
    assert (await failure(line.call())).reason is Reason.BODY_TOO_LARGE


async def test_a_call_works_again_once_the_server_is_back() -> None:
    port = free_port()
    channels = Channels()
    stub = node_agent_pb2_grpc.NodeAgentStub(channels.get(f"127.0.0.1:{port}"))
    call = stub.ListProcesses
    lost = await failure(rpc.call(call, ListProcessesRequest(), timeout_s=5))
    assert lost.reason is Reason.INSTANCE_LOST

    line = Line()
    await line.server.start(f"127.0.0.1:{port}")
    reply = await call(ListProcessesRequest(), wait_for_ready=True, timeout=20)
    assert reply.node == "here"
    await channels.close()
    await line.server.stop(grace_s=0)


async def test_at_the_bound_the_channel_called_longest_ago_is_closed(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_module, "CHANNELS_MAX", 2)
    channels, here = Channels(), f"127.0.0.1:{line.server.port}"
    called, other = channels.get(here), channels.get("b:1")
    await node_agent_pb2_grpc.NodeAgentStub(called).ListProcesses(ListProcessesRequest())
    channels.get("c:1")
    assert channels.get(here) is called
    assert channels.get("b:1") is not other
    await channels.close()


async def test_a_channel_with_a_call_under_way_is_never_closed_for_a_new_one(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_module, "CHANNELS_MAX", 1)
    begun, finish = asyncio.Event(), asyncio.Event()

    async def behave(context: Any) -> ListProcessesReply:
        begun.set()
        await finish.wait()
        return ListProcessesReply(node="here")

    line.node.behave = behave
    channels, here = Channels(), f"127.0.0.1:{line.server.port}"
    stub = channels.stub(node_agent_pb2_grpc.NodeAgentStub, here)
    calling = asyncio.ensure_future(
        rpc.call(stub.ListProcesses, ListProcessesRequest(), timeout_s=20)
    )
    await begun.wait()
    in_use = channels.get(here)
    channels.get("b:1")
    assert channels.get(here) is in_use
    finish.set()
    assert (await calling).node == "here"

    channels.get("c:1")
    assert channels.get(here) is not in_use
    await channels.close()


async def test_health_says_what_is_waited_for() -> None:
    reasons = ["the mast"]
    server = GrpcServer(lambda: reasons[0])
    await server.start("127.0.0.1:0")
    channels = Channels()
    stub = health_pb2_grpc.HealthStub(channels.get(f"127.0.0.1:{server.port}"))
    check = stub.Check(health_pb2.HealthCheckRequest())
    assert (await check).status == HealthStatus.NOT_SERVING
    assert dict(await check.trailing_metadata())[rpc.WAITING_KEY] == "the mast"

    reasons[0] = ""
    await server.set_serving(True)
    check = stub.Check(health_pb2.HealthCheckRequest())
    assert (await check).status == HealthStatus.SERVING
    assert rpc.WAITING_KEY not in dict(await check.trailing_metadata())
    await channels.close()
    await server.stop(grace_s=0)


async def test_a_stub_is_made_once_and_anew_after_its_address_was_forgotten() -> None:
    channels = Channels()
    first = channels.stub(node_agent_pb2_grpc.NodeAgentStub, "a:1")
    assert channels.stub(node_agent_pb2_grpc.NodeAgentStub, "a:1") is first
    channels.forget("a:1")
    assert channels.stub(node_agent_pb2_grpc.NodeAgentStub, "a:1") is not first
    await channels.close()


async def test_no_call_is_lost_when_thousands_come_at_once(line: Line) -> None:
    async def behave(context: Any) -> ListProcessesReply:
        return ListProcessesReply(node="here")

    line.node.behave = behave
    replies = await asyncio.gather(*(line.call() for _ in range(3000)))
    assert {reply.node for reply in replies} == {"here"}
