"""Submits prompts to one instance over a long-lived stream, in batches.

Prompts submitted in one turn of the event loop, or while the instance has not answered the
batch before, are sent as one message: an idle instance gets a prompt at once, a busy one gets
many at a time. A batch that the instance refuses fails its own prompts only. A stream that
breaks, or that brings no answer for ANSWER_S, fails all of its unanswered prompts with
INSTANCE_LOST, whatever broke it.

Concurrency: two tasks per stream, a writer and a reader; the reader ends both. Bounds:
PROMPTS_MAX unanswered per instance, BATCH_BYTES per message.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from argosy.domain.errors import RETRIABLE, ArgosyError, Reason
from argosy.mesh.rpc_errors import from_rpc
from argosy.wire.inference.v1 import inference_pb2

log = logging.getLogger(__name__)

PROMPTS_MAX = 8192
"""Eight times the default `queue_limit`: more unanswered prompts mean that nothing arrives."""
ANSWER_S = 3
"""An instance only queues prompts before it answers, which takes milliseconds. As long as
`stale_s`: an instance that does not answer is as lost as one that sends no reports."""
BATCH_BYTES = 4 << 20
"""A quarter of the largest message (`rpc.MESSAGE_BYTES`): a batch ends with the prompt that
reaches this size, which may be large itself."""
BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)
"""What writing to a stream that ended raises; the reader learns why it ended."""


@dataclass
class PendingPrompt:
    """A prompt that the instance has not answered for. taken: resolved when it does."""

    prompt: inference_pb2.Prompt
    taken: "asyncio.Future[None]"


class PromptStream:
    """The stream to one instance.

    call: of the method Submit, begun and not used yet.
    on_load: called with the load report in each answer.
    """

    def __init__(
        self, instance: str, call: Any, on_load: Callable[[inference_pb2.Load], None]
    ) -> None:
        self._instance = instance
        self._call = call
        self._on_load = on_load
        self._waiting: deque[PendingPrompt] = deque()
        self._unanswered: list[PendingPrompt] = []
        self._batch = 0
        self._prompts = 0
        self._over = False
        self._may_write = asyncio.Event()
        self._late: asyncio.TimerHandle | None = None
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())

    @property
    def broken(self) -> bool:
        """Whether this stream can submit no more prompts."""
        return self._over

    async def submit(self, prompt: inference_pb2.Prompt) -> None:
        """Return when the instance has queued the prompt. Raises ArgosyError."""
        if self._prompts >= PROMPTS_MAX:
            message = f"{self._prompts} prompts are on their way to {self._instance}"
            raise ArgosyError(
                Reason.OVERLOADED, message, retry_after_ms=1000, instance=self._instance
            )
        pending = PendingPrompt(prompt, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._prompts += 1
        if not self._unanswered:
            self._may_write.set()
        try:
            await pending.taken
        finally:
            self._prompts -= 1

    def close(self) -> "asyncio.Task[None]":
        """End the stream. All unanswered prompts have failed when the returned task is done."""
        self._call.cancel()
        return self._reader

    async def _write(self) -> None:
        try:
            while await self._may_write.wait():
                self._may_write.clear()
                if batch := self._take_batch():
                    await self._write_batch(batch)
        except BROKEN:
            return
        except Exception as error:
            log.exception("cannot write prompts to %s", self._instance)
            self._fail_all(ArgosyError(Reason.INSTANCE_LOST, f"writing failed: {error!r}"))
            self._call.cancel()

    async def _write_batch(self, batch: list[PendingPrompt]) -> None:
        self._batch += 1
        self._unanswered = batch
        self._expect_answer()
        prompts = [pending.prompt for pending in batch]
        request = inference_pb2.SubmitRequest(prompts=prompts, batch=self._batch)
        await self._call.write(request)

    def _expect_answer(self) -> None:
        if self._late is not None:
            self._late.cancel()
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(ANSWER_S, self._give_up, self._batch)

    def _give_up(self, batch: int) -> None:
        if self._unanswered and batch == self._batch:
            self._fail_all(ArgosyError(Reason.INSTANCE_LOST, f"no answer within {ANSWER_S} s"))
            self._call.cancel()

    def _take_batch(self) -> list[PendingPrompt]:
        """The next prompts, up to BATCH_BYTES; those whose caller has gone are dropped."""
        batch: list[PendingPrompt] = []
        size_bytes = 0
        while self._waiting and size_bytes < BATCH_BYTES:
            pending = self._waiting.popleft()
            if not pending.taken.done():
                batch.append(pending)
                size_bytes += pending.prompt.ByteSize()
        return batch

    async def _read(self) -> None:
        error = ArgosyError(Reason.INSTANCE_LOST, "it takes no more prompts")
        try:
            while (reply := await self._call.read()) is not grpc.aio.EOF:
                self._answered(reply)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure)
        finally:
            self._writer.cancel()
            if self._late is not None:
                self._late.cancel()
            self._fail_all(error)

    def _answered(self, reply: inference_pb2.SubmitReply) -> None:
        answered, self._unanswered = self._unanswered, []
        refused = reply.HasField("refused")
        for pending in answered:
            if pending.taken.done():
                continue
            if refused:
                pending.taken.set_exception(self._refusal(reply.refused))
            else:
                pending.taken.set_result(None)
        if self._waiting:
            self._may_write.set()
        self._on_load(reply.load)

    def _refusal(self, refused: inference_pb2.Refusal) -> ArgosyError:
        # An instance of another version may know reasons that this router does not.
        return ArgosyError(
            Reason.__members__.get(refused.reason, Reason.INTERNAL),
            refused.message,
            retry_after_ms=refused.retry_after_ms,
            instance=self._instance,
        )

    def _fail_all(self, error: ArgosyError) -> None:
        # However the stream broke, the instance is at fault: its prompts may go to another one.
        self._over = True
        reason = error.reason if error.reason in RETRIABLE else Reason.INSTANCE_LOST
        for pending in (*self._unanswered, *self._waiting):
            if not pending.taken.done():
                message = f"lost {self._instance}: {error.message}"
                pending.taken.set_exception(ArgosyError(reason, message, instance=self._instance))
        self._unanswered.clear()
        self._waiting.clear()
