"""What a core is: decisions as a pure function of state and event.

A core imports only the standard library, msgspec and `argosy.domain`. No clock, socket, thread,
randomness or environment reaches it: the event carries the time, and everything the core wants done
leaves as an effect. So the same object runs live, simulated and replayed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

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


@runtime_checkable
class Sliceable(Snapshotable, Protocol):
    """A part so large that encoding it in one go would stall the process.

    Its snapshot is taken in slices, between steps, while it goes on changing. The part
    remembers what changes after its slice was taken, and the last slice holds that. So all
    slices together, the last one included, are the part at the step of the last slice.

    A state may have such parts among its own fields, not deeper. From `start_slices` to
    `stop_slices`, `to_snapshot` leaves out what slices hold.
    """

    def start_slices(self) -> None:
        """Begin to take slices. Takes well under a millisecond, however large the part is."""
        ...

    def next_slice(self) -> bytes | None:
        """Encode some of what no slice holds yet; None when a last slice can hold the rest."""
        ...

    def last_slice(self) -> bytes:
        """Encode all that no slice holds yet."""
        ...

    def stop_slices(self) -> None:
        """Forget which slices were taken. Also right when they were not taken to the end."""
        ...

    def add_slice(self, data: bytes) -> None:
        """Take in a slice, after `from_snapshot`; later slices replace what earlier ones said."""
        ...


def sliceable_parts(state: msgspec.Struct) -> dict[str, Sliceable]:
    """The fields of a state whose snapshots are taken in slices, by name."""
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    return {name: part for name, part in fields.items() if isinstance(part, Sliceable)}


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
