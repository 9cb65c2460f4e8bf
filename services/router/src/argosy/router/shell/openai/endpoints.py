"""The endpoints: a parsed request in, one JSON body or a run of events out."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai import schema
from argosy.router.shell.openai.replies import ChoiceReply, usage_of
from argosy.router.shell.openai.tools import ToolSplitter
from argosy.router.shell.relay import Relay
from argosy.router.shell.request_context import RequestContext
from argosy.router.shell.validation import RequestValidator
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2


@dataclass
class PreparedCompletion:
    """A request ready to run: one RequestContext per choice."""

    request: Any
    chat: bool
    contexts: list[RequestContext]
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

    def __init__(self, validator: RequestValidator, relay: Relay) -> None:
        self._validator = validator
        self._relay = relay

    async def chat(self, body: bytes, tenant: str) -> PreparedCompletion:
        """Check a chat request and tokenize it. Raises ArgosyError."""
        request = schema.parse(body, schema.ChatRequest)
        wire = schema.chat_to_wire(request, tenant)
        completion = await self._ask(request, [wire], chat=True)
        if request.tools and request.tool_choice != "none":
            forced = request.tool_choice not in (None, "auto")
            single = not request.parallel_tool_calls
            for choice in completion.choices:
                choice.tools = ToolSplitter(forced=forced, single=single)
        return completion

    async def completion(self, body: bytes, tenant: str) -> PreparedCompletion:
        """Check a completion request and tokenize it. Raises ArgosyError."""
        request = schema.parse(body, schema.CompletionRequest)
        wires = schema.completion_to_wire(request, tenant)
        return await self._ask(request, wires, chat=False)

    async def whole(self, completion: PreparedCompletion) -> dict[str, Any]:
        """The reply in one piece."""
        async with aclosing(self._merged(completion)) as chunks:
            async for choice, chunk in chunks:
                choice.add(chunk)
        reply = completion.envelope([choice.whole() for choice in completion.choices], chunk=False)
        return {**reply, "usage": usage_of(completion.choices, completion.prompts)}

    async def events(self, completion: PreparedCompletion) -> AsyncGenerator[dict[str, Any], None]:
        """The reply as stream chunks; raises ArgosyError before the first or between."""
        opened: set[int] = set()
        async with aclosing(self._merged(completion)) as chunks:
            async for choice, chunk in chunks:
                if completion.chat and choice.index not in opened:
                    opened.add(choice.index)
                    role = {"role": "assistant", "content": ""}
                    first = {"index": choice.index, "delta": role, "finish_reason": None}
                    yield completion.envelope([first], chunk=True)
                if (said := choice.add(chunk)) is not None:
                    yield completion.envelope([said], chunk=True)
        if completion.request.include_usage:
            usage = usage_of(completion.choices, completion.prompts)
            yield {**completion.envelope([], chunk=True), "usage": usage}

    async def _ask(
        self, request: Any, wires: Iterable[router_pb2.GenerateRequest], *, chat: bool
    ) -> PreparedCompletion:
        contexts: list[RequestContext] = []
        for wire in wires:
            first = await self._validator.validate(wire, None, fill_max_tokens=chat)
            if contexts:
                # The same options for all prompts: long ones are held once.
                first.sampling = contexts[0].sampling
            contexts.append(first)
            contexts.extend(first.sibling(number) for number in range(1, request.choices))
        choices = [ChoiceReply(index, chat) for index in range(len(contexts))]
        prompts = len(contexts) // request.choices
        return PreparedCompletion(request, chat, contexts, choices, prompts)

    async def _merged(
        self, completion: PreparedCompletion
    ) -> AsyncGenerator[tuple[ChoiceReply, inference_pb2.TokenChunk], None]:
        """All choices' chunks as they come; whatever ends one choice early ends all.

        Each choice always has exactly one step under way, in a task of its own. How that task
        ends (a chunk, the end of the answer, any exception, a cancellation) is its result, so
        no failure of a choice can go unnoticed.
        """
        answers = [self._relay.generate(context) for context in completion.contexts]
        under_way = {next_chunk(answer): number for number, answer in enumerate(answers)}
        try:
            while under_way:
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in under_way if task.done()]:
                    number = under_way.pop(task)
                    if (chunk := chunk_of(task)) is not None:
                        yield completion.choices[number], chunk
                        under_way[next_chunk(answers[number])] = number
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            for answer in answers:
                await answer.aclose()


def next_chunk(
    answer: AsyncGenerator[inference_pb2.TokenChunk, None],
) -> "asyncio.Task[inference_pb2.TokenChunk | None]":
    """A task that ends with the answer's next chunk; None when the answer is complete."""
    return asyncio.ensure_future(anext(answer, None))


def chunk_of(
    task: "asyncio.Task[inference_pb2.TokenChunk | None]",
) -> inference_pb2.TokenChunk | None:
    """The result of a finished task of `next_chunk`. Raises what the choice failed with."""
    if task.cancelled():
        # Nobody here cancelled it: its call was cancelled, as when a channel is closed.
        raise ArgosyError(Reason.INSTANCE_LOST, "the call for one of the choices was cancelled")
    return task.result()
