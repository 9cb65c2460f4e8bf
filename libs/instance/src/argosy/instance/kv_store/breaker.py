"""Keeps a store that fails or is slow out of everybody's way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from argosy.mesh.tasks import start_watched

log = logging.getLogger(__name__)

REST_S_MIN, REST_S_MAX = 0.5, 15.0


class Breaker:
    """Open after a failure, so that nothing is asked of the store; `probe` closes it again.

    Requests never probe: a task does, after a rest that doubles up to REST_S_MAX, and begins
    anew only once the store has done its part again.
    probe: raises when the store is still no good.
    """

    def __init__(self, name: str, probe: Callable[[], Awaitable[None]]) -> None:
        self.open = False
        self._name = name
        self._probe = probe
        self._task: asyncio.Task[None] | None = None
        self._rest_s = REST_S_MIN
        self._closed = False

    def succeed(self) -> None:
        """The store did its part."""
        self._rest_s = REST_S_MIN

    def fail(self, why: object) -> None:
        """The store did not do its part."""
        if not self.open and not self._closed:
            log.warning("going on without the KV store %s for a while: %s", self._name, why)
            self.open = True
            self._task = start_watched(self._recover(), f"probing the KV store {self._name}")

    def close(self) -> None:
        """Stop probing, for good: the store is forgotten."""
        self._closed = self.open = True
        if self._task is not None:
            self._task.cancel()

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(self._rest_s)
            self._rest_s = min(REST_S_MAX, 2 * self._rest_s)
            try:
                await self._probe()
            except Exception as error:  # noqa: BLE001 - whatever it is, the store is no good yet
                log.debug("the KV store %s is still no good: %s", self._name, error)
            else:
                log.info("the KV store %s is back", self._name)
                self.open = False
                return
