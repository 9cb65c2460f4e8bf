"""The load generator: a process of its own, told what to do line by line.

    python -m argosy.bench.load_generator

It reads one JSON `Order` per line and answers each with one JSON `Outcome`.
"""

import asyncio
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import msgspec

from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc

TIMEOUT_S = 60
LETTERS = 256
"""Of the sim engine's vocabulary: every one of them is a token."""


class LoadOrder(msgspec.Struct, frozen=True):
    """What to do. direct: ask Route and take the ticket to decode; else ask Generate.

    rate: requests per second, Poisson, for `seconds`; 0: `requests` of them at once.
    """

    address: str
    direct: bool
    seed: int
    rate: float = 0
    seconds: float = 0
    requests: int = 0
    prompt_tokens: int = 512
    max_tokens: int = 1


class LoadOutcome(msgspec.Struct):
    """What came of it. Times in milliseconds, one per request that was answered.

    route_ms: the Route call alone. ttft_ms: from sending Generate (to the router, or
    the ticket to decode) to the first token.
    """

    requests: int = 0
    route_ms: list[float] = []
    ttft_ms: list[float] = []
    tokens: int = 0
    errors: int = 0
    incomplete: int = 0
    open_most: int = 0
    """Most answers under way at once, each with its first token there."""
    late_s: float = 0.0
    """How long after the last arrival was due the last answer ended."""
    first_error: str = ""


@dataclass
class LoadGenerator:
    """One order under way. channels: by address, kept from order to order."""

    order: LoadOrder
    channels: dict[str, grpc.aio.Channel]
    outcome: LoadOutcome = field(default_factory=LoadOutcome)
    open: int = 0

    def channel(self, address: str) -> grpc.aio.Channel:
        """The one to this address."""
        if address not in self.channels:
            self.channels[address] = grpc.aio.insecure_channel(address)
        return self.channels[address]

    async def run(self) -> LoadOutcome:
        """Ask, open loop: an answer that is late holds up no question."""
        order, chance = self.order, random.Random(self.order.seed)  # noqa: S311 - no secrets
        stub = router_pb2_grpc.RouterStub(self.channel(order.address))
        asked: list[asyncio.Task[None]] = []
        due = began = time.perf_counter()
        while due - began < order.seconds if order.rate else len(asked) < order.requests:
            request = question(order, chance)
            if order.rate:
                due += chance.expovariate(order.rate)
                if (wait_s := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait_s)
            asked.append(asyncio.create_task(self._ask(stub, request)))
        await asyncio.gather(*asked)
        self.outcome.requests = len(asked)
        self.outcome.late_s = time.perf_counter() - due
        return self.outcome

    async def _ask(self, stub: Any, request: router_pb2.GenerateRequest) -> None:
        try:
            if self.order.direct:
                await self._ask_directly(stub, request)
            else:
                call = stub.Generate(request, timeout=TIMEOUT_S)
                await self._stream(call, lambda reply: reply.chunk)
        except grpc.aio.AioRpcError as error:
            self.outcome.errors += 1
            self.outcome.first_error = self.outcome.first_error or str(error.details())

    async def _ask_directly(self, stub: Any, request: router_pb2.GenerateRequest) -> None:
        began = time.perf_counter()
        reply = await stub.Route(router_pb2.RouteRequest(request=request), timeout=TIMEOUT_S)
        self.outcome.route_ms.append(1e3 * (time.perf_counter() - began))
        if reply.decode_address:
            decode = decode_pb2_grpc.DecodeStub(self.channel(reply.decode_address))
            ticket = decode_pb2.GenerateRequest(ticket=reply.ticket)
            if reply.HasField("prompt"):
                ticket.prompt.CopyFrom(reply.prompt)
            await self._stream(decode.Generate(ticket, timeout=TIMEOUT_S), lambda chunk: chunk)

    async def _stream(self, call: Any, chunk_of: Any) -> None:
        began, tokens, finished = time.perf_counter(), 0, False
        try:
            async for reply in call:
                if not tokens:
                    self.outcome.ttft_ms.append(1e3 * (time.perf_counter() - began))
                    self.open += 1
                    self.outcome.open_most = max(self.outcome.open_most, self.open)
                chunk = chunk_of(reply)
                tokens += len(chunk.token_ids)
                finished = finished or bool(chunk.finish_reason)
        finally:
            self.open -= bool(tokens)
        self.outcome.tokens += tokens
        self.outcome.incomplete += not (finished and tokens == self.order.max_tokens)


def question(order: LoadOrder, chance: random.Random) -> router_pb2.GenerateRequest:
    """A prompt nobody has seen before."""
    ids = chance.choices(range(LETTERS), k=order.prompt_tokens)
    return router_pb2.GenerateRequest(
        model="sim",
        tokens=router_pb2.TokenIds(ids=ids),
        sampling=inference_pb2.Sampling(
            max_tokens=order.max_tokens, temperature=0, ignore_eos=True
        ),
    )


async def obey() -> None:
    """Take orders until stdin ends."""
    channels: dict[str, grpc.aio.Channel] = {}
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        order = msgspec.json.decode(line, type=LoadOrder)
        outcome = await LoadGenerator(order, channels).run()
        print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(obey())
