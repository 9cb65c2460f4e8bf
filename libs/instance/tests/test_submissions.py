"""An instance answers each batch of prompts by itself, and stops without making anyone wait."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.instance.submissions import SubmissionServer
from argosy.mesh import rpc
from argosy.wire.inference.v1.inference_pb2 import Load, Prompt, SubmitRequest
from argosy.wire.prefill.v1 import prefill_pb2_grpc

PATIENCE_S = 20


class Taker(prefill_pb2_grpc.PrefillServicer):
    """Takes every prompt but those called `full`."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.submissions = SubmissionServer(self._take, lambda: Load(instance_id="p"))

    async def Submit(self, requests: Any, context: Any) -> None:  # noqa: N802
        await self.submissions.serve(requests, context)

    def _take(self, prompts: Sequence[Prompt]) -> None:
        names = [prompt.request_id for prompt in prompts]
        if "full" in names:
            raise ArgosyError(Reason.OVERLOADED, "no room", retry_after_ms=9)
        self.taken += names


@pytest.fixture
async def served() -> AsyncIterator[tuple[Taker, Any]]:
    taker, server, channels = Taker(), grpc.aio.server(), rpc.Channels()
    prefill_pb2_grpc.add_PrefillServicer_to_server(taker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield taker, channels.stub(prefill_pb2_grpc.PrefillStub, f"127.0.0.1:{port}")
    await channels.close()
    await server.stop(None)


async def send(call: Any, batch: int, *names: str) -> Any:
    prompts = [Prompt(request_id=name) for name in names]
    await call.write(SubmitRequest(batch=batch, prompts=prompts))
    return await asyncio.wait_for(call.read(), PATIENCE_S)


async def test_a_batch_is_answered_by_its_number_and_with_the_load(
    served: tuple[Taker, Any],
) -> None:
    taker, stub = served
    reply = await send(stub.Submit(), 3, "a", "b")
    assert (reply.batch, reply.load.instance_id, reply.HasField("refused")) == (3, "p", False)
    assert taker.taken == ["a", "b"]


async def test_a_refused_batch_leaves_the_stream_to_the_next(served: tuple[Taker, Any]) -> None:
    taker, stub = served
    call = stub.Submit()
    reply = await send(call, 1, "a", "full")
    assert (reply.refused.reason, reply.refused.message) == ("OVERLOADED", "no room")
    assert reply.refused.retry_after_ms == 9
    assert not (await send(call, 2, "b")).HasField("refused")
    assert taker.taken == ["b"]


async def test_an_instance_that_stops_ends_its_streams_in_good_order(
    served: tuple[Taker, Any],
) -> None:
    taker, stub = served
    call = stub.Submit()
    await send(call, 1, "a")
    taker.submissions.stop()
    assert await asyncio.wait_for(call.read(), PATIENCE_S) is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_router_that_hangs_up_leaves_the_others_their_streams(
    served: tuple[Taker, Any],
) -> None:
    taker, stub = served
    first, second = stub.Submit(), stub.Submit()
    await send(first, 1, "a")
    await send(second, 1, "b")
    first.cancel()
    await send(second, 2, "c")
    assert taker.taken == ["a", "b", "c"]
