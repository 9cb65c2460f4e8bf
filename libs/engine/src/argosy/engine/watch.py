"""An engine's background tasks: one that fails is reported, so that no request waits for it."""

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def watch(
    task: "asyncio.Task[None]", what: str, died: Callable[[str], None]
) -> "asyncio.Task[None]":
    """Call `died` with `what` and the error if the task fails; returns the task.

    A task that is cancelled has not failed. `died` is called on the event loop.
    """

    def ended(done: "asyncio.Task[None]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("%s failed", what, exc_info=error)
            died(f"{what} failed: {error!r}")

    task.add_done_callback(ended)
    return task
