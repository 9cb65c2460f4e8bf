"""The service's side of the store connector: shared memory, and messages from the scheduler.

The memory is an anonymous file, which the engine's processes open through /proc: it goes
when the last of them does, however that ends.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from argosy.engine.api import Listener, Staging
from argosy.engine.kv.revision import revision
from argosy.engine.settings import EngineSettings
from argosy.engine.vllm.store.service_messages import ServiceMessage, StoreSettings


class StoreSide:
    """See the module."""

    def __init__(self, settings: EngineSettings, sockets: str) -> None:
        self._settings = settings
        self._file = os.memfd_create("argosy-staging")
        self._path = f"/proc/{os.getpid()}/fd/{self._file}"
        self._to_service_endpoint = f"ipc://{Path(sockets) / 'staged'}"
        self._from_service_endpoint = f"ipc://{Path(sockets) / 'freed'}"
        context = zmq.asyncio.Context.instance()
        self._pull = context.socket(zmq.PULL)
        self._pull.setsockopt(zmq.RCVHWM, 0)
        self._pull.bind(self._to_service_endpoint)
        self._push: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._push.setsockopt(zmq.SNDHWM, 0)
        self._push.bind(self._from_service_endpoint)

    def connector_settings(self) -> dict[str, Any]:
        """The connector's settings, as plain data."""
        settings = self._settings
        found = StoreSettings(
            settings.model,
            revision(settings),
            settings.block_tokens,
            settings.tensor_parallel,
            self._path,
            settings.kv_staging_bytes,
            self._to_service_endpoint,
            self._from_service_endpoint,
        )
        return msgspec.structs.asdict(found)

    def staging(self, slot_bytes: int, load_slots: int, slots: int, layout: str) -> Staging:
        """The staging memory, as the connector has divided it."""
        return Staging(self._path, slot_bytes, load_slots, slots, layout)

    async def follow(self, listener: Listener) -> None:
        """Pass the scheduler's messages on to the listener, until cancelled."""
        while True:
            message = msgspec.msgpack.decode(await self._pull.recv(), type=ServiceMessage)
            if message.staged:
                listener.staged(message.staged)
            for request_id in message.loaded:
                listener.loaded(request_id)

    def unstage(self, slots: list[int]) -> None:
        """The scheduler may use these slots again."""
        self._push.send(msgspec.msgpack.encode(slots))

    def close(self) -> None:
        """Let go of sockets and memory."""
        self._pull.close(linger=0)
        self._push.close(linger=0)
        os.close(self._file)
