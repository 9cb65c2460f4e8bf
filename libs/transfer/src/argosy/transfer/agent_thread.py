"""One NIXL agent, and the only thread that calls it: it posts transfers, polls them and sleeps.

NIXL cannot abort a transfer. Releasing one under way frees its handle, but the bytes still
arrive (measured: over TCP a peer that had been stopped wrote all of them afterwards). So a job
that nobody waits for any more is polled until NIXL says that it has ended, and only then does the
job settle.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from argosy.transfer.job import TransferFailed, TransferJob
from argosy.transfer.memory import Memory

log = logging.getLogger(__name__)

HOT_S = 200e-6
"""How long to poll without pause after something moved: most blocks take less."""
POLL_S = 50e-6
"""Between polls after that: little beside the milliseconds that large transfers take."""
REPORT_S = 500e-6
"""How long an outcome may wait for others, to report all at once: waking the event loop costs tens
of microseconds each time."""
STRAY_POLL_S = 10e-3
"""Between polls of transfers that nobody waits for: only their memory is wanted back."""
IDLE_TICK_S = 1.0
"""How often an agent without NIXL's own progress thread reads what peers have sent, such as that
they leave."""
MAX_FILE_BYTES = (1 << 63) - 1
"""A file is registered once for all offsets there can be."""


class NixlAgentThread:
    """The agent's thread, and the calls of the event loop to it.

    make_agent: called on the thread. tick: whether to read notifications while idle.
    """

    def __init__(self, name: str, make_agent: Callable[[], Any], *, tick: bool) -> None:
        self._agent: Any = None
        self._jobs: list[TransferJob] = []
        self._make_agent = make_agent
        self._closed = False
        self._tick = tick
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._moved_s = 0.0
        self._new_job_next = False
        self._outcomes: list[tuple[TransferJob, str]] = []
        self._first_outcome_s = 0.0
        self._lost: set[str] = set()
        self._leaving: set[str] = set()
        self._files: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def start(self) -> None:
        """Make the agent, on its thread. Nothing if it is made; tries again if it failed."""
        if self._thread.ident is None:
            self._thread.start()
        await self._call(self._make)

    def submit(self, job: TransferJob) -> None:
        """Begin a job; it settles through `TransferJob.rest`."""
        self._enqueue(lambda: self._jobs.append(job))

    async def close(self) -> None:
        """End the thread and the agent. No transfer moves a byte afterwards."""
        if not self._closed:
            self._calls.put(None)
        self._closed = True
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    async def register(self, memory: Memory) -> Any:
        """Allow transfers with `memory`; returns the registration, for `withdraw`."""
        whole = [(memory.address, memory.size_bytes, 0, "")]
        return await self._call(lambda: self._agent.register_memory(whole, "DRAM"))

    async def withdraw(self, memory: Memory, registration: Any) -> None:
        """Deregister memory. Raises TransferFailed while a transfer uses it."""
        await self._call(lambda: self._withdraw(memory, registration))

    async def metadata(self) -> bytes:
        """What a peer needs to reach what is registered now."""
        return bytes(await self._call(self._agent.get_agent_metadata))

    async def add_peer(self, metadata: bytes) -> str:
        """Let transfers reach the peer with this metadata; its name. Repeat after changes."""
        return str(await self._call(lambda: self._add_peer(metadata)))

    async def forget_peer(self, peer: str) -> None:
        """Close the connection once no transfer is under way on it."""
        await self._call(lambda: self._forget_peer(peer))

    async def _call(self, function: Callable[[], Any]) -> Any:
        """Run `function` on the thread; returns or raises what it does."""
        answer: Future[Any] = Future()

        def run() -> None:
            try:
                answer.set_result(function())
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                answer.set_exception(error)

        self._enqueue(run)
        return await asyncio.shield(asyncio.wrap_future(answer))

    def _withdraw(self, memory: Memory, registration: Any) -> None:
        if any(memory.contains(piece[0], piece[2]) for job in self._jobs for piece in job.pieces):
            raise TransferFailed(
                f"memory at {memory.address:#x} is still in use by a transfer; wait until "
                "that has settled, then withdraw it"
            )
        self._agent.deregister_memory(registration)

    def _add_peer(self, metadata: bytes) -> str:
        try:
            name = self._agent.add_remote_agent(metadata)
        except Exception:
            # After a lost connection NIXL refuses until it has been told to forget.
            if not self._lost:
                raise
            while self._lost:
                self._agent.remove_remote_agent(self._lost.pop())
            name = self._agent.add_remote_agent(metadata)
        name = name.decode() if isinstance(name, bytes) else str(name)
        self._leaving.discard(name)
        self._lost.discard(name)
        return name

    def _forget_peer(self, peer: str) -> None:
        # NIXL stops reporting on transfers with a peer that it has forgotten.
        if any(job.peer == peer for job in self._jobs):
            self._leaving.add(peer)
        else:
            self._leaving.discard(peer)
            self._lost.discard(peer)
            self._agent.remove_remote_agent(peer)

    def _enqueue(self, call: Callable[[], Any]) -> None:
        if self._closed:
            raise TransferFailed("this bytes plane was closed; make and start another")
        self._calls.put(call)

    def _make(self) -> None:
        if self._agent is None:
            self._agent = self._make_agent()

    def _run(self) -> None:
        while self._run_calls():
            for job in [job for job in self._jobs if job.handle is not None]:
                self._advance(job, self._poll)
            waiting = [job for job in self._jobs if job.handle is None]
            if waiting:
                self._advance(self._next(waiting), self._post)
            if len(waiting) < 2 or time.monotonic() > self._first_outcome_s + REPORT_S:
                self._report()
        for job in self._jobs:
            self._release(job)
        # The last reference: this ends NIXL's own thread and all connections.
        self._agent = None
        for job in self._jobs:
            self._settle(job, "this bytes plane was closed")
        self._report()

    def _run_calls(self) -> bool:
        """Run the queued calls; sleep if there is nothing to poll. False: the thread is to end."""
        with contextlib.suppress(queue.Empty):
            call = self._calls.get(timeout=self._sleep_s())
            while call is not None:
                call()
                call = self._calls.get_nowait()
            return False
        if not self._jobs and self._tick and self._agent is not None:
            # Reads what peers sent between transfers.
            self._attempt(self._agent.get_new_notifs)
        return True

    def _sleep_s(self) -> float | None:
        if not self._jobs:
            return IDLE_TICK_S if self._tick else None
        if all(job.abandoned for job in self._jobs):
            return STRAY_POLL_S
        to_post = any(job.handle is None for job in self._jobs)
        return 0.0 if to_post or time.monotonic() < self._moved_s + HOT_S else POLL_S

    def _next(self, waiting: list[TransferJob]) -> TransferJob:
        """The job that posts next: by turns one that has begun and one that has not.

        So a small transfer waits for one post of a large one, and neither starves.
        """
        self._new_job_next = not self._new_job_next
        job = next((job for job in waiting if job.begun != self._new_job_next), waiting[0])
        self._jobs.remove(job)
        self._jobs.append(job)
        return job

    def _advance(self, job: TransferJob, step: Callable[[TransferJob], str]) -> None:
        """Post or poll; end the job if nothing of it is left."""
        try:
            state = step(job)
        except Exception as error:  # noqa: BLE001 - NIXL's own have no common base
            if type(error).__name__ == "nixlRemoteDisconnectError":
                self._lost.add(job.peer)
            self._end(job, str(error) or type(error).__name__)
            return
        if state == "PROC":
            return
        self._moved_s = time.monotonic()
        self._release(job)
        if state != "DONE":
            self._end(job, "NIXL does not say why")
        elif job.abandoned or not job.posts:
            self._end(job, "")

    def _poll(self, job: TransferJob) -> str:
        return str(self._agent.check_xfer_state(job.handle))

    def _post(self, job: TransferJob) -> str:
        if job.abandoned or not job.posts:
            return "DONE"
        if job.peer in self._leaving:
            raise LookupError("it has been forgotten")
        if job.fd is not None and job.fd not in self._files:
            whole = [(0, MAX_FILE_BYTES, job.fd, "")]
            self._files[job.fd] = self._agent.register_memory(whole, "FILE")
        job.begun = True
        pieces = job.posts.popleft()
        local = [(address, size, 0) for address, _, size in pieces]
        remote = [(place, size, job.fd or 0) for _, place, size in pieces]
        job.handle = self._agent.initialize_xfer(
            job.operation,
            self._agent.get_xfer_descs(local, "DRAM"),
            self._agent.get_xfer_descs(remote, "DRAM" if job.fd is None else "FILE"),
            job.peer,
        )
        self._moved_s = time.monotonic()
        state = str(self._agent.transfer(job.handle))
        return self._poll(job) if state == "PROC" else state  # often it is done by now

    def _end(self, job: TransferJob, wrong: str) -> None:
        self._release(job)
        self._jobs.remove(job)
        if job.fd in self._files and all(other.fd != job.fd for other in self._jobs):
            # The number may name another file next time.
            registration = self._files.pop(job.fd)
            self._attempt(lambda: self._agent.deregister_memory(registration))
        if job.peer in self._leaving:
            self._attempt(lambda: self._forget_peer(job.peer))
        self._settle(job, wrong)

    def _attempt(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception:
            # Nobody waits for this call, and the thread must go on.
            log.exception("NIXL failed between transfers")

    def _release(self, job: TransferJob) -> None:
        if job.handle is not None:
            with contextlib.suppress(Exception):  # the failure was reported before
                job.handle.release()
            job.handle = None

    def _settle(self, job: TransferJob, wrong: str) -> None:
        if not self._outcomes:
            self._first_outcome_s = time.monotonic()
        self._outcomes.append((job, wrong))

    def _report(self) -> None:
        if not self._outcomes:
            return
        outcomes, self._outcomes = self._outcomes, []

        def report() -> None:
            for job, wrong in outcomes:
                if not job.rest.done():
                    job.rest.set_result(wrong)

        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits
            outcomes[0][0].rest.get_loop().call_soon_threadsafe(report)
