"""Submits prompts to instances: one stream to each, opened by the first prompt for it."""

import asyncio
from collections.abc import Callable
from typing import Any

from argosy.router.shell.prompt_stream import PromptStream
from argosy.wire.inference.v1 import inference_pb2


class PromptSubmissions:
    """A stream to every instance that prompts go to.

    connect: begins a call of the method Submit at an address.
    on_load: called with the load report that each answer carries.
    """

    def __init__(
        self, connect: Callable[[str], Any], on_load: Callable[[inference_pb2.Load], None]
    ) -> None:
        self._connect = connect
        self._on_load = on_load
        self._streams: dict[str, PromptStream] = {}

    async def submit(self, prompt: inference_pb2.Prompt, instance: str, address: str) -> None:
        """Return when the instance has queued the prompt.

        Raises the instance's refusal, or INSTANCE_LOST. Cancelling before the prompt is
        written withdraws it; after that the prompt expires with its ticket.
        """
        stream = self._streams.get(address)
        if stream is None or stream.broken:
            stream = PromptStream(instance, self._connect(address), self._on_load)
            self._streams[address] = stream
        await stream.submit(prompt)

    def forget(self, address: str) -> None:
        """Close the stream to an address where no instance is any more."""
        if stream := self._streams.pop(address, None):
            stream.close()

    async def close(self) -> None:
        """Close all streams."""
        ends = [stream.close() for stream in self._streams.values()]
        self._streams.clear()
        # A reader whose call we cancelled ends with CancelledError.
        await asyncio.gather(*ends, return_exceptions=True)
