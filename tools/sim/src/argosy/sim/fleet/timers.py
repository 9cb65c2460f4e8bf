"""A core's timers in virtual time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from argosy.domain.core import CancelTimer, Effect, Event, SetTimer, TimerFired

if TYPE_CHECKING:
    from argosy.sim.fleet.simulation import Simulation


class Timers:
    """Sets and cancels what a core asks for; `feed` gets what fires."""

    def __init__(self, simulation: "Simulation", feed: Callable[[Event], None]) -> None:
        self._simulation = simulation
        self._feed = feed
        self._due: dict[str, int] = {}

    def take(self, effect: Effect) -> bool:
        """Whether the effect was one of these two, and is dealt with."""
        if isinstance(effect, SetTimer):
            at_us = max(effect.at_us, self._simulation.now_us)
            self._due[effect.key] = at_us
            self._simulation.at(at_us, self._fire, effect.key, at_us)
        elif isinstance(effect, CancelTimer):
            self._due.pop(effect.key, None)
        else:
            return False
        return True

    def _fire(self, key: str, at_us: int) -> None:
        if self._due.get(key) == at_us:
            del self._due[key]
            self._feed(TimerFired(now_us=self._simulation.now_us, key=key))
