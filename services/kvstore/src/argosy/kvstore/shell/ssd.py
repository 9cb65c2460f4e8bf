"""Performs the core's reads and writes of SSD.

One task does writes and clears, in their order and in batches. Each read has a task of its own. A
task that fails ends the process. Bounds are the core's: at most `writing_bytes` are on their way to
SSD, and reads go only into slots that the core has taken.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from argosy.kvstore.core import effects, events
from argosy.kvstore.shell.segments import Segments
from argosy.mesh.driver import Driver
from argosy.mesh.tasks import start_watched
from argosy.transfer.bytes_plane import TransferFailed

log = logging.getLogger(__name__)

BATCH_BLOCKS = 32
"""Written between two syncs: a sync takes milliseconds, whatever it is for."""
READ_BLOCKS = 8
"""Read at once: the first go to the reader while others are read."""


class Ssd:
    """See the module. Set `driver` before the first call."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.driver: Driver
        self._queue: asyncio.Queue[effects.WriteSsd | effects.ClearSsd] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._write(), "writing to SSD")

    def queue(self, effect: effects.WriteSsd | effects.ClearSsd) -> None:
        """Write or clear, after all that was queued before."""
        self._queue.put_nowait(effect)

    def read(self, effect: effects.ReadSsd) -> None:
        """Read at once, READ_BLOCKS at a time."""

        async def run() -> None:
            checking = None
            for start in range(0, len(effect.moves), READ_BLOCKS):
                batch = effect.moves[start : start + READ_BLOCKS]
                read, trouble = await self.segments.read(batch)
                if checking is not None:
                    await checking
                checking = asyncio.ensure_future(self._check(batch, read, trouble))
            if checking is not None:
                await checking

        self._spawn(run(), "reading from SSD")

    async def _check(
        self, batch: list[effects.Move], read: list[effects.Move], trouble: str
    ) -> None:
        good = await asyncio.to_thread(self.segments.check_read, read)
        fine = set(good)
        bad = [move.key for move in batch if move.key not in fine]
        trouble = trouble and f"cannot read from the SSD tier: {trouble}"
        self.driver.feed(
            events.SsdRead(now_us=self.driver.now_us(), good=good, bad=bad, trouble=trouble)
        )

    async def stop(self) -> None:
        """Stop. What is not written by now is lost."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.segments.close()

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = start_watched(work, what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        while True:
            effect = await self._queue.get()
            if isinstance(effect, effects.ClearSsd):
                await asyncio.to_thread(self._clear, effect)
                continue
            moves = list(effect.moves)
            following: effects.WriteSsd | effects.ClearSsd | None = None
            while len(moves) < BATCH_BLOCKS and not self._queue.empty():
                following = self._queue.get_nowait()
                alike = isinstance(following, effects.WriteSsd)
                if not alike or following.slot_bytes != effect.slot_bytes:  # type: ignore[union-attr]
                    break
                moves += following.moves  # type: ignore[union-attr]
                following = None
            await self._write_batch(moves, effect.slot_bytes)
            if isinstance(following, effects.ClearSsd):
                await asyncio.to_thread(self._clear, following)
            elif following is not None:
                await self._write_batch(list(following.moves), following.slot_bytes)

    async def _write_batch(self, moves: list[effects.Move], slot_bytes: int) -> None:
        trouble = ""
        try:
            await self.segments.write(moves, slot_bytes)
        except (OSError, TransferFailed) as error:
            trouble = f"cannot write to the SSD tier: {error}"
            log.warning("%s; it is left alone for a while", trouble)
        keys = [move.key for move in moves]
        self.driver.feed(events.SsdWritten(now_us=self.driver.now_us(), keys=keys, trouble=trouble))

    def _clear(self, effect: effects.ClearSsd) -> None:
        try:
            self.segments.clear(effect.offsets)
        except OSError as error:
            log.warning("cannot clear %d slots of the SSD tier: %s", len(effect.offsets), error)
