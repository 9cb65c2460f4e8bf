"""The endpoints: a parsed request in, one JSON body or a run of events out."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.router.shell.live_request import RequestContext
from argosy.router.shell.openai import schema
from argosy.router.shell.openai.replies import ChoiceReply, usage_of
from argosy.router.shell.openai.tools import ToolSplitter
from argosy.router.shell.relay import Relay
from argosy.router.shell.validation import RequestValidator
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2

CHUNKS_WAITING_MAX = 64


@dataclass
class PreparedCompletion:
    """A request ready to run: one passage per choice."""

    request: Any
    chat: bool
    passages: list[RequestContext]
    choices: list[ChoiceReply]
    prompts: int

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def envelope(self, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        """What is around the choices."""
        kind = "chat.completion" if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": f"{kind}.chunk" if chunk and self.chat else kind,
            "created": self.created,
            "model": self.request.model,
            "choices": choices,
        }


class Endpoints:
    """Chat and plain completions over the relay."""

    def __init__(self, intake: RequestValidator, relay: Relay) -> None:
        self._intake = intake
        self._relay = relay

    async def chat(self, body: bytes, tenant: str) -> PreparedCompletion:
        """Check a chat request and tokenize it. Raises ArgosyError."""
        request = schema.parse(body, schema.ChatRequest)
        wire = schema.chat_to_wire(request, tenant)
        asked = await self._ask(request, [wire], chat=True)
        if request.tools and request.tool_choice != "none":
            forced = request.tool_choice not in (None, "auto")
            for choice in asked.choices:
                choice.tools = ToolSplitter(forced=forced)
        return asked

    async def completion(self, body: bytes, tenant: str) -> PreparedCompletion:
        """Check a completion request and tokenize it. Raises ArgosyError."""
        request = schema.parse(body, schema.CompletionRequest)
        wires = schema.completion_to_wire(request, tenant)
        return await self._ask(request, wires, chat=False)

    async def whole(self, asked: PreparedCompletion) -> dict[str, Any]:
        """The reply in one piece."""
        async with aclosing(self._merged(asked)) as chunks:
            async for choice, chunk in chunks:
                choice.add(chunk)
        reply = asked.envelope([choice.whole() for choice in asked.choices], chunk=False)
        return {**reply, "usage": usage_of(asked.choices, asked.prompts)}

    async def events(self, asked: PreparedCompletion) -> AsyncGenerator[dict[str, Any], None]:
        """The reply as stream chunks; raises ArgosyError before the first or between."""
        opened: set[int] = set()
        async with aclosing(self._merged(asked)) as chunks:
            async for choice, chunk in chunks:
                if asked.chat and choice.index not in opened:
                    opened.add(choice.index)
                    role = {"role": "assistant", "content": ""}
                    first = {"index": choice.index, "delta": role, "finish_reason": None}
                    yield asked.envelope([first], chunk=True)
                if (said := choice.add(chunk)) is not None:
                    yield asked.envelope([said], chunk=True)
        if asked.request.include_usage:
            usage = usage_of(asked.choices, asked.prompts)
            yield {**asked.envelope([], chunk=True), "usage": usage}

    async def _ask(
        self, request: Any, wires: list[router_pb2.GenerateRequest], *, chat: bool
    ) -> PreparedCompletion:
        passages = []
        for wire in wires:
            for number in range(request.choices):
                one = router_pb2.GenerateRequest()
                one.CopyFrom(wire)
                if number and one.sampling.HasField("seed"):
                    # Exclusive or: a seed of its own for each, and none outgrows the field.
                    one.sampling.seed ^= number
                passages.append(await self._intake.admit(one, None, fill_max_tokens=True))
        choices = [ChoiceReply(index, chat) for index in range(len(passages))]
        return PreparedCompletion(request, chat, passages, choices, len(wires))

    async def _merged(
        self, asked: PreparedCompletion
    ) -> AsyncGenerator[tuple[ChoiceReply, inference_pb2.TokenChunk], None]:
        """All choices' chunks as they come; the first failure ends all."""
        if len(asked.passages) == 1:
            async with aclosing(self._relay.generate(asked.passages[0])) as chunks:
                async for chunk in chunks:
                    yield asked.choices[0], chunk
            return
        queue: asyncio.Queue[Any] = asyncio.Queue(CHUNKS_WAITING_MAX)

        async def pump(choice: ChoiceReply, passage: RequestContext) -> None:
            try:
                async with aclosing(self._relay.generate(passage)) as chunks:
                    async for chunk in chunks:
                        await queue.put((choice, chunk))
                await queue.put(None)
            except ArgosyError as error:
                await queue.put(error)

        tasks = [
            asyncio.create_task(pump(choice, passage))
            for choice, passage in zip(asked.choices, asked.passages, strict=True)
        ]
        try:
            running = len(tasks)
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                elif isinstance(item, ArgosyError):
                    raise item
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
