"""The instance's side of Submit: batches of prompts come in, an answer to each goes out.

Concurrency: one handler task per router; `stop` ends them all with status OK, so that
a server that stops need not wait for them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from argosy.domain.errors import ArgosyError
from argosy.mesh import rpc
from argosy.wire.inference.v1 import inference_pb2


class SubmissionServer:
    """Serves Submit streams.

    queue: queues every prompt of a batch, or raises ArgosyError and queues none.
    load: the load to send with each answer.
    """

    def __init__(
        self,
        queue: Callable[[Sequence[inference_pb2.Prompt]], None],
        load: Callable[[], inference_pb2.Load],
    ) -> None:
        self._queue = queue
        self._load = load
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def serve(
        self, requests: AsyncIterator[inference_pb2.SubmitRequest], context: rpc.Context
    ) -> None:
        """Answer one router's batches, in order, until it hangs up or `stop` is called."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async for request in requests:
                await context.write(self._answer(request))
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            task.uncancel()
        finally:
            self._tasks.discard(task)

    def stop(self) -> None:
        """End every stream."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()

    def _answer(self, request: inference_pb2.SubmitRequest) -> inference_pb2.SubmitReply:
        refused = None
        try:
            self._queue(request.prompts)
        except ArgosyError as error:
            refused = inference_pb2.Refusal(
                reason=error.reason.name, message=error.message, retry_after_ms=error.retry_after_ms
            )
        return inference_pb2.SubmitReply(load=self._load(), batch=request.batch, refused=refused)
