"""Drives a core in the live world: events in, journal, effects out, timers.

Ordering: `feed` runs on the event loop's thread and is atomic: one event is decided,
journalled and its effects handed to `perform` before the next is looked at. An event
fed while another is being decided waits its turn. `perform` must not block.

A core that raises has changed its state by half, so nothing it decides afterwards can be
relied on or replayed. The driver journals the event with what was raised, writes the journal
out, says so in `failure`, and feeds the core no more: the process has to end.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from argosy.domain.core import CancelTimer, Core, Effect, Event, SetTimer, TimerFired
from argosy.mesh.journal import JournalWriter
from argosy.mesh.journal_format import described

log = logging.getLogger(__name__)

JUMP_NS = 1_000_000_000
"""Clocks that are slewed differ by less; a machine that slept, or a clock set, by more."""


class CoreFailed(Exception):
    """A core raised instead of deciding: which event, and what it raised."""


class Clock:
    """Wall time that never runs backwards, whatever the system clock does.

    It follows jumps forward of over a second (the machine slept, or its clock was set);
    steps back are ignored.
    """

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_us(self) -> int:
        """Unix microseconds."""
        monotonic_ns = time.monotonic_ns()
        behind_ns = time.time_ns() - monotonic_ns - self._offset_ns
        if behind_ns > JUMP_NS:
            self._offset_ns += behind_ns
        return (monotonic_ns + self._offset_ns) // 1000

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self.now_us() // 1000


class Driver:
    """The shell's half of a core."""

    def __init__(
        self,
        core: Core,
        journal: JournalWriter | None,
        perform: Callable[[Any], None],
        clock: Clock,
    ) -> None:
        self.core = core
        self.clock = clock
        self._journal = journal
        self._perform = perform
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiting: deque[Event] = deque()
        self._stepping = False
        self.failure: CoreFailed | None = None
        """Set once the core has raised: this driver decides nothing any more."""
        self.on_failure: Callable[[CoreFailed], None] = lambda failure: None

    def now_us(self) -> int:
        """The time to put into the next event."""
        return self.clock.now_us()

    def feed(self, event: Event) -> None:
        """Let the core decide on `event` and perform what it says.

        Raises CoreFailed when the core raises, and does nothing from then on.
        """
        if self.failure is not None:
            log.debug("%r comes after the core failed", event)
            return
        self._waiting.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._waiting:
                self._step(self._waiting.popleft())
        finally:
            self._stepping = False

    def close(self) -> None:
        """Cancel all timers and finish the journal."""
        self._cancel_timers()
        if self._journal is not None:
            self._journal.close()

    def _step(self, event: Event) -> None:
        try:
            effects = self.core.step(event)
        except Exception as error:
            raise self._fail(event, error) from error
        if self._journal is not None:
            self._journal.append(event, effects)
        for effect in effects:
            try:
                self._do(effect)
            except Exception:
                # One effect that cannot be performed must not cost the others.
                log.exception("cannot perform %r", effect)
        if self._journal is not None:
            self._journal.advance(self.core.state)

    def _fail(self, event: Event, error: Exception) -> CoreFailed:
        kind = type(event).__name__
        log.critical("the core failed on %s; this process must end", kind, exc_info=error)
        self._waiting.clear()
        self._cancel_timers()
        if self._journal is not None:
            self._journal.append_failure(event, error)
            self._journal.close()
        self.failure = CoreFailed(f"the core failed on {kind}: {described(error)}")
        self.on_failure(self.failure)
        return self.failure

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, SetTimer):
            self._cancel(effect.key)
            delay_s = max(0, effect.at_us - self.clock.now_us()) / 1e6
            loop = asyncio.get_running_loop()
            self._timers[effect.key] = loop.call_later(delay_s, self._fire, effect.key)
        elif isinstance(effect, CancelTimer):
            self._cancel(effect.key)
        else:
            self._perform(effect)

    def _cancel(self, key: str) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.feed(TimerFired(now_us=self.clock.now_us(), key=key))
