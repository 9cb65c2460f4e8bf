"""Drives a core in the live world: events in, journal, effects out, timers.

Ordering: `feed` runs on the event loop's thread and is atomic: one event is decided,
journalled and its effects handed to `perform` before the next is looked at. An event
fed while another is being decided waits its turn. `perform` must not block.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from argosy.domain.core import CancelTimer, Core, Effect, Event, SetTimer, TimerFired
from argosy.mesh.journal import JournalWriter

log = logging.getLogger(__name__)

JUMP_NS = 1_000_000_000


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

    def now_us(self) -> int:
        """The time to put into the next event."""
        return self.clock.now_us()

    def feed(self, event: Event) -> None:
        """Let the core decide on `event` and perform what it says."""
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
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._journal is not None:
            self._journal.close()

    def _step(self, event: Event) -> None:
        effects = self.core.step(event)
        if self._journal is not None:
            self._journal.append(event, effects, self.core.state)
        for effect in effects:
            try:
                self._do(effect)
            except Exception:
                # One effect that cannot be performed must not cost the others.
                log.exception("cannot perform %r", effect)

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
