"""A service's background tasks: one that fails ends the process, so that nothing waits for it."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

EXIT_FAILED = 70
"""EX_SOFTWARE of sysexits.h: a defect. The node agent starts another process."""


def end_process(message: str) -> None:
    """End at once, as after a kill: callers see it and go elsewhere, another process starts.

    A graceful stop would wait for work that cannot end.
    """
    log.critical("%s: ending, to be started anew", message)
    os._exit(EXIT_FAILED)


def start_watched(
    work: Coroutine[Any, Any, None], what: str, failed: Callable[[str], None] = end_process
) -> "asyncio.Task[None]":
    """A task for `work`. `failed` is called with `what` and the error if it raises.

    A task that is cancelled has not failed.
    """

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", what, exc_info=error)
            failed(f"{what} failed: {error!r}")

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task
