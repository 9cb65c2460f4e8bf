"""A core's timers in virtual time."""

from collections.abc import Callable

from argosy.domain.core import CancelTimer, Effect, Event, SetTimer, TimerFired
from argosy.sim.fleet.event_queue import EventQueue


class Timers:
    """Sets and cancels the timers a core asks for, and feeds the core when one fires."""

    def __init__(self, queue: EventQueue, feed: Callable[[Event], None]) -> None:
        self._queue = queue
        self._feed = feed
        self._due: dict[str, int] = {}

    def handle(self, effect: Effect) -> bool:
        """Carry out an effect if it concerns a timer; False leaves it to the caller."""
        if isinstance(effect, SetTimer):
            at_us = max(effect.at_us, self._queue.now_us)
            self._due[effect.key] = at_us
            self._queue.at(at_us, self._fire, effect.key, at_us)
        elif isinstance(effect, CancelTimer):
            self._due.pop(effect.key, None)
        else:
            return False
        return True

    def _fire(self, key: str, at_us: int) -> None:
        if self._due.get(key) == at_us:
            del self._due[key]
            self._feed(TimerFired(now_us=self._queue.now_us, key=key))
