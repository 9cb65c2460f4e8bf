"""The bytes plane moves KV blocks between processes (NIXL over UCX) and to files (NIXL's POSIX).

The side that reads or writes is active, and names the addresses that the other side gave it. The
other side is passive: its event loop does nothing. NIXL's progress thread answers there, to
connections and, where one process cannot read the memory of another, to transfers.

Memory given to a transfer belongs to it until the transfer ends. That is when `read` or `write`
returns or raises, except after a timeout, because NIXL cannot abort. TransferFailed then says so:
`still_running`, and `settled` to wait for.

    plane = BytesPlane("decode-0", passive=False)
    await plane.register(memory)
    peer = await plane.add_peer(metadata)   # the peer's `metadata()`, brought by other means
    await plane.read(peer, [(memory.address, remote_address, size_bytes)], timeout_s=1)
"""

import asyncio
import os
import secrets
from collections import defaultdict
from typing import Any

from argosy.transfer.agent_thread import NixlAgentThread
from argosy.transfer.job import Piece, TransferFailed, TransferJob
from argosy.transfer.memory import Memory
from argosy.transfer.progress_polling import slow_down_polling

__all__ = ["BytesPlane", "Memory", "Piece", "TransferFailed"]

MAX_TRANSFERS = 64
"""At a time, with one peer or with all files. Further ones wait their turn, and their timeout runs:
each post is polled, so that more at once would slow all of them down."""
PROGRESS_POLL_US = 50_000
"""Arrivals wake the progress thread at once; polling finds only what UCX does not announce. Twenty
polls a second cost nothing that can be measured."""


class BytesPlane:
    """A NIXL agent for peers and, with `files`, one for files; each on a thread of its own.

    `name` is for people: `self.name`, which peers know, is new with each BytesPlane, so
    a restarted process is never taken for the one before it. `passive`: peers may read
    and write here; False, where none will, is faster over a network.
    """

    def __init__(
        self, name: str, *, host: str = "", passive: bool = True, files: bool = False
    ) -> None:
        # NIXL's log goes to stdout, which belongs to the parent process.
        os.environ.setdefault("NIXL_LOG_LEVEL", "WARN")
        if host == "127.0.0.1":
            # On one machine nothing has to listen where others could reach it.
            os.environ.setdefault("UCX_NET_DEVICES", "lo")
        self.name = f"{name}-{os.getpid()}-{secrets.token_hex(4)}"
        self._metadata = b""
        self._passive = passive
        self._started = False
        self._wire = NixlAgentThread(f"{name}-wire", self._make_wire_agent, tick=not passive)
        self._disk = (
            NixlAgentThread(f"{name}-disk", self._make_disk_agent, tick=False) if files else None
        )
        self._registrations: dict[Memory, list[tuple[NixlAgentThread, Any]]] = {}
        self._rooms: dict[tuple[NixlAgentThread, str], asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(MAX_TRANSFERS)
        )

    async def start(self) -> None:
        """Import NIXL and make the agents; `register` and `add_peer` do it where needed.

        Raises TransferFailed where NIXL cannot run.
        """
        if self._started:
            return
        for agent in self._agents():
            try:
                await agent.start()
            except TransferFailed:
                raise
            except Exception as error:
                raise TransferFailed(
                    f"cannot make NIXL agent {self.name}: {error!r}; check that nixl is "
                    "installed, and UCX_TLS, UCX_NET_DEVICES if they are set"
                ) from error
        await self._refresh_metadata()
        self._started = True

    async def close(self) -> None:
        """End all transfers and threads. Afterwards no memory is touched any more."""
        for agent in self._agents():
            await agent.close()

    def metadata(self) -> bytes:
        """What a peer needs to reach what is registered now. Stale after `register`."""
        return self._metadata

    async def register(self, memory: Memory) -> None:
        """Allow transfers from, to and within `memory`. Peers need the new metadata."""
        await self.start()
        self._registrations[memory] = [
            (agent, await agent.register(memory)) for agent in self._agents()
        ]
        await self._refresh_metadata()

    async def withdraw(self, memory: Memory) -> None:
        """Take `register` back. A peer that has old metadata can still reach the bytes.

        Raises TransferFailed while a transfer of ours is using them.
        """
        registrations = self._registrations[memory]
        while registrations:
            agent, registration = registrations[-1]
            await agent.withdraw(memory, registration)
            registrations.pop()
        del self._registrations[memory]
        await self._refresh_metadata()

    async def add_peer(self, metadata: bytes) -> str:
        """Let transfers reach the peer with this metadata; its name. Repeat after changes."""
        await self.start()
        try:
            return await self._wire.add_peer(metadata)
        except Exception as error:
            raise TransferFailed(
                f"cannot reach a peer by its {len(metadata)} bytes of metadata: {error!r}; "
                "it may have restarted: ask it for its metadata again"
            ) from error

    async def forget_peer(self, peer: str) -> None:
        """Let go of a peer; what is under way with it ends first."""
        self._rooms.pop((self._wire, peer), None)
        if self._started:
            await self._wire.forget_peer(peer)

    async def read(self, peer: str, pieces: list[Piece], timeout_s: float) -> None:
        """Fetch: each piece's bytes from the peer's address to ours."""
        await self._move(self._wire, "READ", peer, pieces, timeout_s)

    async def write(self, peer: str, pieces: list[Piece], timeout_s: float) -> None:
        """Put: each piece's bytes from our address to the peer's."""
        await self._move(self._wire, "WRITE", peer, pieces, timeout_s)

    async def read_file(self, fd: int, pieces: list[Piece], timeout_s: float) -> None:
        """Fetch: each piece's bytes from the file's offset. `fd` stays open till it settles."""
        await self._move(self._files(), "READ", self.name, pieces, timeout_s, fd)

    async def write_file(self, fd: int, pieces: list[Piece], timeout_s: float) -> None:
        """Put: each piece's bytes at the file's offset. Not synced: fsync is the caller's."""
        await self._move(self._files(), "WRITE", self.name, pieces, timeout_s, fd)

    async def _move(
        self,
        agent: NixlAgentThread,
        operation: str,
        peer: str,
        pieces: list[Piece],
        timeout_s: float,
        fd: int | None = None,
    ) -> None:
        """One transfer, begun and waited for. Cancelled, it first comes to rest."""
        await self.start()
        what = f"{operation} of {sum(size for _, _, size in pieces)} bytes, " + (
            f"peer {peer}" if fd is None else f"file descriptor {fd}"
        )
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        room = self._rooms[agent, peer]
        try:
            async with asyncio.timeout_at(deadline_s):
                await room.acquire()
        except TimeoutError:
            raise TransferFailed(
                f"{what}: not begun within {timeout_s} s, {MAX_TRANSFERS} others were under "
                "way; retry later, or elsewhere"
            ) from None
        job = TransferJob(operation, peer, pieces, fd)
        job.rest.add_done_callback(lambda _: room.release())
        agent.submit(job)
        cancelled = False
        while not job.rest.done() and (left_s := deadline_s - loop.time()) > 0:
            try:
                await asyncio.wait({job.rest}, timeout=left_s)
            except asyncio.CancelledError:
                cancelled = job.abandoned = True
        if not job.rest.done():
            job.abandoned = True
            raise TransferFailed(
                f"{what}: not ended within {timeout_s} s and cannot be aborted; leave its "
                "memory alone until it has settled, and do without these bytes",
                job.rest,
            )
        if cancelled:
            raise asyncio.CancelledError
        if wrong := job.rest.result():
            raise TransferFailed(f"{what}: {wrong}; " + _remedy(fd))

    def _agents(self) -> list[NixlAgentThread]:
        return [self._wire] if self._disk is None else [self._wire, self._disk]

    def _files(self) -> NixlAgentThread:
        if self._disk is None:
            raise TransferFailed("this bytes plane has no files; make it with files=True")
        return self._disk

    async def _refresh_metadata(self) -> None:
        self._metadata = await self._wire.metadata()

    def _make_wire_agent(self) -> Any:
        slow_down_polling(PROGRESS_POLL_US)
        return _make_agent(self.name, "UCX", progress=self._passive)

    def _make_disk_agent(self) -> Any:
        return _make_agent(self.name, "POSIX", progress=False)


def _remedy(fd: int | None) -> str:
    if fd is None:
        return "if the peer has restarted add_peer its new metadata; memory must be registered"
    return "the file is too short, the disk full, or the descriptor not open for this"


def _make_agent(name: str, backend: str, *, progress: bool) -> Any:
    from nixl._api import nixl_agent, nixl_agent_config

    return nixl_agent(name, nixl_agent_config(enable_prog_thread=progress, backends=[backend]))
