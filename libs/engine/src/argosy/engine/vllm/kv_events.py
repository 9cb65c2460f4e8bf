"""vLLM's KV events, with its block hashes replaced by Argosy's own chained ones."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine.api import BlocksChanged
from argosy.engine.kv.net_changes import NetChanges


class HashTranslator:
    """Maps vLLM's hash of each block that is stored now to ours.

    Bounded by the engine's number of blocks: what is removed is forgotten.
    """

    def __init__(self, model: str, block_tokens: int) -> None:
        self._model = model
        self._block_tokens = block_tokens
        self._ours: dict[int, int] = {}

    def translate(self, events: list[dict[str, Any]]) -> BlocksChanged | None:
        """One batch of vLLM's events as one change; None when nothing changed."""
        changes = NetChanges()
        for event in events:
            match event["type"]:
                case "BlockStored":
                    self._store(event, changes)
                case "BlockRemoved":
                    for theirs in event["block_hashes"]:
                        if (ours := self._ours.pop(theirs, None)) is not None:
                            changes.remove(ours)
                case "AllBlocksCleared":
                    self._ours.clear()
                    changes.clear()
        return changes.take()

    def _store(self, event: dict[str, Any], changes: NetChanges) -> None:
        parent = event.get("parent_block_hash")
        if parent is None:
            start = root_hash(self._model, salt_of(event))
        elif parent in self._ours:
            start = self._ours[parent]
        else:
            return  # Its parent is gone already: no prompt can match it any more.
        chain = chained_block_hashes(event["token_ids"], self._block_tokens, start)
        for theirs, ours in zip(event["block_hashes"], chain, strict=True):
            if theirs not in self._ours:  # vLLM may hold a block twice.
                self._ours[theirs] = ours
                changes.store(ours)


def salt_of(event: dict[str, Any]) -> str:
    """The cache salt of a chain's first block: vLLM hashes it in as an extra key."""
    keys = (event.get("extra_keys") or [None])[0]
    return next((key for key in keys or () if isinstance(key, str)), "")


async def follow(
    endpoint: str, translator: HashTranslator, deliver: Callable[[BlocksChanged], None]
) -> None:
    """Deliver changes as vLLM publishes them, until cancelled."""
    socket = zmq.asyncio.Context.instance().socket(zmq.SUB)
    try:
        socket.connect(endpoint)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        while True:
            _, _, payload = await socket.recv_multipart()
            _, events, *_ = msgspec.msgpack.decode(payload)
            if changed := translator.translate(events):
                deliver(changed)
    except asyncio.CancelledError:
        socket.close(linger=0)
        raise
