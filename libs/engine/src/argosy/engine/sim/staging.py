"""The sim engine's staging memory: a block's bytes are its key, over and over.

So KV of another block is noticed when it is taken in, as wrong tokens would be elsewhere.
"""

import os
from collections import deque
from pathlib import Path

from argosy.domain.kv_blocks import KEY_BYTES
from argosy.engine.api import EngineFailed, Preload, Staged, Staging
from argosy.engine.kv.chain import BlockNames
from argosy.engine.kv.revision import revision, with_layout
from argosy.engine.settings import EngineSettings
from argosy.transfer.memory import Memory

SLOT_BYTES = 4096
SLOTS_MAX = 1 << 16


class SimStaging:
    """See the module. Half of the slots are for loads."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._revision = with_layout(revision(settings), "")
        slots = max(2, min(SLOTS_MAX, settings.kv_staging_bytes // SLOT_BYTES))
        self._file = os.memfd_create("argosy-staging")
        path = f"/proc/{os.getpid()}/fd/{self._file}"
        self._memory = Memory(slots * SLOT_BYTES, Path(path))
        self.info = Staging(path, SLOT_BYTES, slots // 2, slots)
        self._free = deque(range(slots // 2, slots))

    def chain(self, cache_salt: str, token_ids: list[int]) -> BlockNames:
        """The names of a request's blocks."""
        settings = self._settings
        chain = BlockNames(settings.model, self._revision, cache_salt, settings.block_tokens)
        chain.extend(token_ids, len(token_ids))
        return chain

    def check(self, preload: Preload, chain: BlockNames) -> None:
        """Raise EngineFailed when what was preloaded is not the KV of these blocks."""
        for number, slot in enumerate(preload.slots, preload.first_block):
            found = self._memory.view[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
            if found != content(chain.keys[number]):
                raise EngineFailed(f"block {number} was preloaded with the KV of another")

    def stage(self, chain: BlockNames, first: int, last: int) -> list[Staged]:
        """Copy blocks [first, last) out, as far as there are slots."""
        staged = []
        for number in range(first, min(last, first + len(self._free))):
            slot = self._free.popleft()
            place = slice(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)
            self._memory.view[place] = content(chain.keys[number])
            staged.append(chain.staged(number, slot))
        return staged

    def unstage(self, slots: list[int]) -> None:
        """These are free again."""
        self._free.extend(slots)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self._file)


def content(key: bytes) -> bytes:
    """A block's KV."""
    return key * (SLOT_BYTES // KEY_BYTES)
