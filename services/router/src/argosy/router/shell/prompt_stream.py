"""Prompts on their way to one instance: a long-lived stream, batches in, answers out.

What is handed over for an instance in one turn of the event loop, or until the batch
before is answered, goes as one message: an idle instance gets a prompt at once, a busy
one many at a time. A batch that is refused fails its own prompts only. A stream that
breaks, or does not answer for ANSWER_S, fails every prompt it has not answered with
INSTANCE_LOST.

Concurrency: two tasks per stream, a writer and a reader; the reader ends both. Bounds:
PROMPTS_MAX unanswered per instance, BATCH_BYTES per message.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from argosy.domain.errors import RETRIABLE, ArgosyError, Reason
from argosy.mesh.rpc_errors import from_rpc
from argosy.wire.inference.v1 import inference_pb2

PROMPTS_MAX = 8192
ANSWER_S = 3
BATCH_BYTES = 4 << 20
BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)
"""What writing to a stream that ended raises."""


@dataclass
class Handed:
    """A prompt, and who waits to hear whether it was taken."""

    prompt: inference_pb2.Prompt
    taken: "asyncio.Future[None]"


class PromptStream:
    """The stream to one instance. call: Submit's, begun and not used yet."""

    def __init__(
        self, instance: str, call: Any, heard: Callable[[inference_pb2.Load], None]
    ) -> None:
        self._instance = instance
        self._call = call
        self._heard = heard
        self._waiting: deque[Handed] = deque()
        self._unanswered: list[Handed] = []
        self._batch = 0
        self._prompts = 0
        self._over = False
        self._may_write = asyncio.Event()
        self._late: asyncio.TimerHandle | None = None
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())

    @property
    def broken(self) -> bool:
        """Whether nothing can be handed over here any more."""
        return self._over

    async def hand_over(self, prompt: inference_pb2.Prompt) -> None:
        """Return once the instance has queued it. Raises ArgosyError."""
        if self._prompts >= PROMPTS_MAX:
            message = f"{self._prompts} prompts are on their way to {self._instance}"
            raise ArgosyError(Reason.OVERLOADED, message, retry_after_ms=1000)
        handed = Handed(prompt, asyncio.get_running_loop().create_future())
        self._waiting.append(handed)
        self._prompts += 1
        if not self._unanswered:
            self._may_write.set()
        try:
            await handed.taken
        finally:
            self._prompts -= 1

    def hang_up(self) -> "asyncio.Task[None]":
        """What is unanswered fails, by the time the task returned is done."""
        self._call.cancel()
        return self._reader

    async def _write(self) -> None:
        with contextlib.suppress(*BROKEN):
            while await self._may_write.wait():
                self._may_write.clear()
                if batch := self._take_batch():
                    self._batch += 1
                    self._unanswered = batch
                    self._expect_answer()
                    prompts = [handed.prompt for handed in batch]
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

    def _take_batch(self) -> list[Handed]:
        """What waits and is still wanted, as far as one message takes it."""
        batch: list[Handed] = []
        size_bytes = 0
        while self._waiting and size_bytes < BATCH_BYTES:
            handed = self._waiting.popleft()
            if not handed.taken.done():
                batch.append(handed)
                size_bytes += handed.prompt.ByteSize()
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
        for handed in answered:
            if handed.taken.done():
                continue
            if refused:
                handed.taken.set_exception(self._refusal(reply.refused))
            else:
                handed.taken.set_result(None)
        if self._waiting:
            self._may_write.set()
        self._heard(reply.load)

    def _refusal(self, refused: inference_pb2.Refusal) -> ArgosyError:
        return ArgosyError(
            Reason[refused.reason],
            refused.message,
            retry_after_ms=refused.retry_after_ms,
            instance=self._instance,
        )

    def _fail_all(self, error: ArgosyError) -> None:
        # However it broke, the instance is at fault, and the prompt may go to another.
        self._over = True
        reason = error.reason if error.reason in RETRIABLE else Reason.INSTANCE_LOST
        for handed in (*self._unanswered, *self._waiting):
            if not handed.taken.done():
                message = f"lost {self._instance}: {error.message}"
                handed.taken.set_exception(ArgosyError(reason, message, instance=self._instance))
        self._unanswered.clear()
        self._waiting.clear()
