"""Prompts on their way to instances: a stream to each, opened by the first prompt for it."""

import asyncio
from collections.abc import Callable
from typing import Any

from argosy.router.shell.prompt_stream import PromptStream
from argosy.wire.inference.v1 import inference_pb2


class PromptSubmissions:
    """A stream to every instance that prompts go to.

    connect: begins the call to an address.
    heard: told the load that rides back on each answer.
    """

    def __init__(
        self, connect: Callable[[str], Any], heard: Callable[[inference_pb2.Load], None]
    ) -> None:
        self._connect = connect
        self._heard = heard
        self._streams: dict[str, PromptStream] = {}

    async def submit(self, prompt: inference_pb2.Prompt, instance: str, address: str) -> None:
        """Return once the instance has queued the prompt.

        Raises what it was refused with, or INSTANCE_LOST. A caller that is cancelled
        before the prompt is written takes it back; after that its ticket runs out.
        """
        stream = self._streams.get(address)
        if stream is None or stream.broken:
            stream = PromptStream(instance, self._connect(address), self._heard)
            self._streams[address] = stream
        await stream.hand_over(prompt)

    def forget(self, address: str) -> None:
        """Nobody is at this address any more."""
        if stream := self._streams.pop(address, None):
            stream.hang_up()

    async def close(self) -> None:
        """Hang up everywhere."""
        ends = [stream.hang_up() for stream in self._streams.values()]
        self._streams.clear()
        # Reading from a call that we hung up on ends as a cancelled task does.
        await asyncio.gather(*ends, return_exceptions=True)
