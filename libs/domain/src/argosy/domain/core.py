"""What a core is: decisions as a pure function of state and event.

A core imports nothing but the standard library, msgspec and vocabulary like this.
No clock, socket, thread, randomness or environment reaches it: time arrives in the
event, and everything it wants done leaves as an effect. The same object then runs
live, simulated and replayed.
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
    """A deciding machine. `state` is a msgspec.Struct that holds all it knows."""

    state: Any

    def step(self, event: Any) -> Sequence[Effect]:
        """Take in one event and say what to do. Never raises on input from outside."""
        ...


class Snapshotable(Protocol):
    """A part of a state that is no plain data, but can be written as such and read back."""

    def to_snapshot(self) -> Any:
        """All of it as plain data; for the journal."""
        ...

    @classmethod
    def from_snapshot(cls, snapshot: Any) -> Self:
        """One that decides as that of which the snapshot was taken."""
        ...


def to_snapshot(part: Any) -> Any:
    """msgspec's enc_hook for states."""
    return part.to_snapshot()


def from_snapshot(kind: Any, snapshot: Any) -> Any:
    """msgspec's dec_hook for states."""
    return kind.from_snapshot(snapshot)


@dataclass(frozen=True)
class CoreSpec:
    """Enough to build a core again from its journal."""

    name: str
    events: Any
    """A union of every event type."""
    state: type[Any]
    build: Callable[[Any], Core]
    """From a state to a core that goes on from there."""
