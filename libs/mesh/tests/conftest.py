"""What the chassis's tests share: a real bus, patience, and a core small enough to check."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from argosy.domain.core import CancelTimer, CoreSpec, Effect, Event, SetTimer, TimerFired
from argosy.launcher.nats_process import NatsProcess
from argosy.mesh.bus import Bus

PATIENCE_S = 20
TIMER_US = 1000


class Noted(Event, frozen=True, kw_only=True, tag=True):
    word: str
    amount: int


class Forgotten(Event, frozen=True, kw_only=True, tag=True):
    word: str


class Spoiled(Event, frozen=True, kw_only=True, tag=True):
    """The tiny core has a fault: this makes it change its state and raise."""

    word: str


class Report(Effect, frozen=True, kw_only=True, tag=True):
    word: str
    total: int


class Totals(msgspec.Struct):
    totals: dict[str, int] = {}


class TinyCore:
    """Adds up amounts per word, and reports all of them when a word's timer fires.

    `slip` is what a changed core would add to an amount of 7.
    """

    def __init__(self, state: Totals, slip: int = 0) -> None:
        self.state = state
        self._slip = slip

    def step(self, event: Any) -> list[Effect]:
        totals = self.state.totals
        match event:
            case Noted(now_us=now_us, word=word, amount=amount):
                total = totals.get(word, 0) + amount + (self._slip if amount == 7 else 0)
                totals[word] = total
                return [Report(word=word, total=total), SetTimer(key=word, at_us=now_us + TIMER_US)]
            case Forgotten(now_us=_, word=word):
                totals.pop(word, None)
                return [CancelTimer(key=word)]
            case Spoiled(word=word):
                totals[word] = -1
                raise KeyError(word)
            case TimerFired():
                return [Report(word=word, total=totals[word]) for word in sorted(totals)]
        return []


EVENTS = Noted | Forgotten | Spoiled | TimerFired
SPEC = CoreSpec("tiny", EVENTS, Totals, TinyCore)
CHANGED_SPEC = CoreSpec("tiny", EVENTS, Totals, lambda state: TinyCore(state, slip=1))


class Tiny:
    """The tiny core's words, for tests that cannot import this file."""

    Noted, Forgotten, Spoiled, Report, Totals = Noted, Forgotten, Spoiled, Report, Totals
    spec, changed_spec = SPEC, CHANGED_SPEC
    home = Path(__file__)


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture
async def join(nats: NatsProcess) -> AsyncIterator[Callable[..., Bus]]:
    """Puts a process of that name on the bus; all leave when the test ends."""
    joined: list[Bus] = []

    def start(source: str, fleet: str = "test") -> Bus:
        bus = Bus(nats.url, fleet, source)
        bus.start()
        joined.append(bus)
        return bus

    yield start
    await asyncio.gather(*(bus.close(flush_s=0) for bus in joined))


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`await eventually(predicate)`: returns once it holds, fails when patience ends."""

    async def wait(predicate: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not predicate():
            assert time.monotonic() < deadline, "what was awaited never came"
            await asyncio.sleep(0.005)

    return wait
