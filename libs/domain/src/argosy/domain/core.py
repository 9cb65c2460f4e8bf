"""What a core is: decisions as a pure function of state and event.

A core imports only the standard library, msgspec and `argosy.domain`. No clock, socket, thread,
randomness or environment reaches it: the event carries the time, and everything the core wants done
leaves as an effect. So the same object runs live, simulated and replayed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that happened. Subclasses are named in the past tense."""

    now_us: int
    """Wall time of the step, Unix microseconds; never runs backwards."""


class TimerFired(Event, frozen=True, kw_only=True, tag=True):
    """A timer set by `SetTimer` is due."""

    key: str


class Effect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something to do. Subclasses are named in the imperative."""


class SetTimer(Effect, frozen=True, kw_only=True, tag=True):
    """Ask for `TimerFired(key)` at `at_us`; replaces an earlier timer of that key."""

    key: str
    at_us: int


class CancelTimer(Effect, frozen=True, kw_only=True, tag=True):
    """Forget the timer of that key; nothing happens if there is none."""

    key: str


class Core(Protocol):
    """Decides. `state` is a msgspec.Struct that holds everything it knows."""

    state: Any

    def step(self, event: Any) -> Sequence[Effect]:
        """Take one event and return what is to be done. Never raises on input from outside."""
        ...


class Snapshotable(Protocol):
    """A part of a state that is not plain data, but can be written as plain data and read back."""

    def to_snapshot(self) -> Any:
        """Return all of it as plain data, for the journal."""
        ...

    @classmethod
    def from_snapshot(cls, snapshot: Any) -> Self:
        """Build an object that decides exactly as the one that was written."""
        ...


def to_snapshot(part: Any) -> Any:
    """msgspec's enc_hook for states."""
    return part.to_snapshot()


def from_snapshot(kind: Any, snapshot: Any) -> Any:
    """msgspec's dec_hook for states."""
    return kind.from_snapshot(snapshot)


@dataclass(frozen=True)
class CoreSpec:
    """What replay needs to rebuild a core from its journal."""

    name: str
    events: Any
    """The union of its event types."""
    state: type[Any]
    build: Callable[[Any], Core]
    """Builds a core that continues from a state."""
