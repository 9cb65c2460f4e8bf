"""Keeps requests away from a store that fails or is slow."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from argosy.mesh.tasks import start_watched

log = logging.getLogger(__name__)

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 15.0
"""Before the first probe: a heartbeat. At most: a store that is back is used within a quarter of a
minute."""


class Breaker:
    """Open after a failure: while it is, the store is not used. A `probe` closes it again.

    Requests never probe: a task does, after a pause that doubles up to BACKOFF_S_MAX. The pause
    is short again only once a load or save has succeeded.
    probe: raises if the store cannot be used yet.
    """

    def __init__(self, name: str, probe: Callable[[], Awaitable[None]]) -> None:
        self.open = False
        self._name = name
        self._probe = probe
        self._task: asyncio.Task[None] | None = None
        self._backoff_s = BACKOFF_S_MIN
        self._closed = False

    def succeed(self) -> None:
        """A load or save has succeeded."""
        self._backoff_s = BACKOFF_S_MIN

    def fail(self, why: object) -> None:
        """A load or save has failed: open."""
        if not self.open and not self._closed:
            log.warning("going on without the KV store %s for a while: %s", self._name, why)
            self.open = True
            self._task = start_watched(self._recover(), f"probing the KV store {self._name}")

    def close(self) -> None:
        """Stop probing for good: the store is not used any more."""
        self._closed = self.open = True
        if self._task is not None:
            self._task.cancel()

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(self._backoff_s)
            self._backoff_s = min(BACKOFF_S_MAX, 2 * self._backoff_s)
            try:
                await self._probe()
            except Exception as error:  # noqa: BLE001 - whatever it is, the store is no good yet
                log.debug("the KV store %s is still no good: %s", self._name, error)
            else:
                log.info("the KV store %s is back", self._name)
                self.open = False
                return
