"""A bare NIXL copy between two processes: what the KV path is measured against.

Run as a module it is the passive side: it prints its metadata and address, and waits.
"""

import sys
import time
from typing import Any

from argosy.transfer.memory import Memory


class BareCopy:
    """The active side: one agent, one loop that posts and polls."""

    def __init__(self, memory: Memory, metadata: bytes, address: int) -> None:
        self._memory = memory
        self._address = address
        self._agent = agent("bare-active")
        self._agent.register_memory([(memory.address, memory.size_bytes, 0, "")], "DRAM")
        self._peer = self._agent.add_remote_agent(metadata)
        if isinstance(self._peer, bytes):
            self._peer = self._peer.decode()

    def copy(self, operation: str, block_bytes: int, blocks: int) -> float:
        """READ or WRITE `blocks` at once; seconds."""
        ours, theirs = (
            self._agent.get_xfer_descs(
                [(start + n * block_bytes, block_bytes, 0) for n in range(blocks)], "DRAM"
            )
            for start in (self._memory.address, self._address)
        )
        began = time.perf_counter()
        handle = self._agent.initialize_xfer(operation, ours, theirs, self._peer)
        state = self._agent.transfer(handle)
        while state == "PROC":
            state = self._agent.check_xfer_state(handle)
        took_s = time.perf_counter() - began
        self._agent.release_xfer_handle(handle)
        if state != "DONE":
            raise RuntimeError(f"a bare {operation} of {blocks} blocks ended in {state}")
        return took_s


def agent(name: str) -> Any:
    """A NIXL agent as its documentation makes it, but for a progress thread that rests."""
    from argosy.transfer.progress_polling import slow_down_polling

    slow_down_polling(1000)
    from nixl._api import nixl_agent, nixl_agent_config

    return nixl_agent(name, nixl_agent_config(enable_prog_thread=True, backends=["UCX"]))


def wait(size_bytes: int) -> None:
    """Be there until stdin ends."""
    memory = Memory(size_bytes)
    passive = agent("bare-passive")
    passive.register_memory([(memory.address, memory.size_bytes, 0, "")], "DRAM")
    print(f"bare {passive.get_agent_metadata().hex()} {memory.address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    wait(int(sys.argv[1]))
