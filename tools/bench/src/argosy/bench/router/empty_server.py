"""The baselines: a router that does nothing, and a decode instance that does nothing.

    python -m argosy.bench.router.empty_server backend
    python -m argosy.bench.router.empty_server router HOST:PORT

Each prints the port it took. They are what grpc.aio alone costs: generated stubs, real
messages of the sizes Argosy's have, and no work at all in between.
"""

import asyncio
import sys
from typing import Any

import grpc

from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc

TICKET_BYTES = 150
SIGNATURE_BYTES = 32
REQUEST_ID = "0123456789abcdef" * 2


def last_chunk() -> inference_pb2.TokenChunk:
    """A chunk as decode ends an answer of one token with."""
    return inference_pb2.TokenChunk(
        token_ids=[300],
        text=" wall",
        finish_reason=inference_pb2.FINISH_REASON_LENGTH,
        usage=inference_pb2.Usage(prompt_tokens=512, completion_tokens=1),
        load=inference_pb2.Load(
            instance_id="decode-0",
            epoch="0123456789ab",
            running_requests=3,
            kv_used_blocks=1000,
            kv_total_blocks=100_000,
            at_us=1 << 50,
        ),
        timing=inference_pb2.Timing(attempts=1),
    )


class EmptyDecode(decode_pb2_grpc.DecodeServicer):
    """One token to everybody."""

    async def Generate(self, request: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        """Answer at once."""
        await context.write(last_chunk())


class EmptyRouter(router_pb2_grpc.RouterServicer):
    """Answers Route at once, and relays one message per Generate."""

    def __init__(self, backend: str) -> None:
        self._decode = decode_pb2_grpc.DecodeStub(grpc.aio.insecure_channel(backend))
        ticket = inference_pb2.SignedTicket(
            ticket=bytes(TICKET_BYTES), signature=bytes(SIGNATURE_BYTES)
        )
        self._reply = router_pb2.RouteReply(request_id=REQUEST_ID, ticket=ticket)

    async def Route(self, request: Any, context: Any) -> router_pb2.RouteReply:  # noqa: N802
        """The empty unary call."""
        return self._reply

    async def Generate(self, request: router_pb2.GenerateRequest, context: Any) -> None:  # noqa: N802
        """The empty relay: one call to the backend, which takes a message as large as ours."""
        forwarded = inference_pb2.SignedTicket(ticket=request.SerializeToString())
        answer = self._decode.Generate(decode_pb2.GenerateRequest(ticket=forwarded), timeout=60)
        async for chunk in answer:
            await context.write(router_pb2.GenerateChunk(request_id=REQUEST_ID, chunk=chunk))


async def serve(backend: str | None) -> None:
    """Serve one of the two until killed."""
    server = grpc.aio.server()
    if backend is None:
        decode_pb2_grpc.add_DecodeServicer_to_server(EmptyDecode(), server)
    else:
        router_pb2_grpc.add_RouterServicer_to_server(EmptyRouter(backend), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2] if sys.argv[1] == "router" else None))
