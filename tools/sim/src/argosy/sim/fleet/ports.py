"""What the actors of a simulation see of each other.

Each actor is given the ports it needs; none knows the simulation that connects them.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from argosy.domain.core import Event
from argosy.engine.profile import Profile
from argosy.engine.sim.sequence import Sequence as EngineSequence
from argosy.instance.lifecycle import effects as lifecycle_effects
from argosy.router.core import effects as router_effects
from argosy.router.core import events as router_events

Fact = Callable[[int], Event]
"""Makes the event of a fact, given the time at which it arrives."""
Publish = Callable[[Fact], None]
"""Sends a fact to every router."""


class FactReceiver(Protocol):
    """A router, as the bus and the requests see it."""

    name: str

    def feed(self, event: Event) -> None:
        """Let the core decide and carry out its effects."""


class PlacedRequest(Protocol):
    """A request, as its router sees it."""

    def dispatched(self, dispatch: router_effects.Dispatch) -> None:
        """The router has placed the request."""

    def rejected(self) -> None:
        """The router refuses the request."""


class KvHolder(Protocol):
    """An instance or the KV store, as a router sees it that has missed changes of KV blocks."""

    @property
    def alive(self) -> bool:
        """Whether it answers."""

    def snapshot(self, now_us: int) -> router_events.KvSnapshotTaken:
        """All KV blocks it holds, including every change published so far."""


class KvClient(Protocol):
    """An instance, as the KV store sees it."""

    name: str

    @property
    def profile(self) -> Profile:
        """What steps and transfers take."""

    def cached_blocks(self, rank: int, hashes: Sequence[int]) -> int:
        """How many blocks a rank caches of a prompt, from its beginning on."""


class BlockSaver(Protocol):
    """The KV store, as an instance sees it."""

    def save(self, sequence: EngineSequence) -> None:
        """Store the blocks a sequence has completed since it was last saved."""


class LifecycleHost(Protocol):
    """An instance, as its lifecycle sees it."""

    name: str
    epoch: int
    alive: bool
    admitting: bool
    attempts: set[str]

    @property
    def profile(self) -> Profile:
        """What the steps of going to sleep and waking take."""

    def forget_blocks(self) -> None:
        """Lose all cached KV blocks, and publish that."""

    def lifecycle_changed(self, change: lifecycle_effects.PublishChange) -> None:
        """The lifecycle has changed, which routers must hear of."""
