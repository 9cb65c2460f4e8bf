"""A segment begins with the state at its first step, also when slices of it took many steps."""

from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from argosy.domain.core import CoreSpec, Effect, Event
from argosy.mesh import journal
from argosy.mesh.journal import JournalWriter
from argosy.mesh.replay import replay_directory


class Put(Event, frozen=True, kw_only=True, tag=True):
    shelf: int
    amount: int


class Say(Effect, frozen=True, kw_only=True, tag=True):
    total: int


class Shelves:
    """Numbers on shelves; a slice is two shelves, and a step changes one."""

    def __init__(self) -> None:
        self.amounts = [0] * 8
        self.untaken: list[int] | None = None
        self.slices_taken = 0

    def put(self, shelf: int, amount: int) -> None:
        self.amounts[shelf] += amount
        if self.untaken is not None and shelf not in self.untaken:
            self.untaken.append(shelf)

    def to_snapshot(self) -> list[int]:
        return self.amounts if self.untaken is None else []

    @classmethod
    def from_snapshot(cls, snapshot: list[int]) -> Self:
        made = cls()
        made.amounts = snapshot or made.amounts
        return made

    def start_slices(self) -> None:
        self.untaken = [*range(8)]

    def next_slice(self) -> bytes | None:
        assert self.untaken is not None
        if len(self.untaken) <= 2:
            return None
        self.slices_taken += 1
        taken, self.untaken = self.untaken[:2], self.untaken[2:]
        return self._encoded(taken)

    def last_slice(self) -> bytes:
        return self._encoded(self.untaken or [])

    def _encoded(self, shelves: list[int]) -> bytes:
        return msgspec.msgpack.encode([(shelf, self.amounts[shelf]) for shelf in shelves])

    def stop_slices(self) -> None:
        self.untaken = None

    def add_slice(self, data: bytes) -> None:
        for shelf, amount in msgspec.msgpack.decode(data):
            self.amounts[shelf] = amount


class Stock(msgspec.Struct):
    shelves: Shelves


class StockCore:
    """Says what is on a shelf after each put: a wrong state shows in its digests."""

    def __init__(self, state: Stock) -> None:
        self.state = state

    def step(self, event: Any) -> list[Effect]:
        self.state.shelves.put(event.shelf, event.amount)
        return [Say(total=amount) for amount in self.state.shelves.amounts]


SPEC = CoreSpec("stock", Put, Stock, StockCore)


class Stepper:
    """The core, journalled; every step may take a slice."""

    def __init__(self, directory: Path) -> None:
        self.core = StockCore(Stock(Shelves()))
        self.writer = JournalWriter(directory, SPEC, self.core.state, segment_bytes=1)
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        event = Put(now_us=self.steps, shelf=(self.steps * 5) % 8, amount=self.steps)
        self.writer.append(event, self.core.step(event))
        self.writer.advance(self.core.state)


@pytest.fixture
def stepper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stepper:
    monkeypatch.setattr(journal, "SLICE_EVERY_S", 0)
    monkeypatch.setattr(journal, "FLUSH_S", 0.002)
    return Stepper(tmp_path)


def segments(directory: Path) -> int:
    return len(list(directory.glob("*.argj")))


def test_every_segment_replays_alone_and_no_step_is_missing_or_twice(
    stepper: Stepper, tmp_path: Path
) -> None:
    while segments(tmp_path) < 6:
        stepper.step()
    stepper.writer.close()

    replays = list(replay_directory(tmp_path, {"stock": SPEC}))
    assert all(r.difference is None and not r.cut for r in replays)
    assert sum(r.steps for r in replays) == stepper.steps
    assert stepper.core.state.shelves.slices_taken >= 6 * 3


def test_a_step_takes_at_most_one_slice(stepper: Stepper, tmp_path: Path) -> None:
    shelves = stepper.core.state.shelves
    while segments(tmp_path) < 3:
        before = shelves.slices_taken
        stepper.step()
        assert shelves.slices_taken - before <= 1
    stepper.writer.close()


def test_slices_keep_their_distance_in_time(
    stepper: Stepper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SLICE_EVERY_S", 3600)
    before = stepper.core.state.shelves.slices_taken
    while stepper.core.state.shelves.slices_taken == before:
        stepper.step()
    for _ in range(100):
        stepper.step()
    assert stepper.core.state.shelves.slices_taken == before + 1
    stepper.writer.close()


def test_a_process_that_ends_while_slices_are_taken_leaves_only_whole_segments(
    stepper: Stepper, tmp_path: Path
) -> None:
    before = stepper.core.state.shelves.slices_taken
    while stepper.core.state.shelves.slices_taken < before + 3:
        stepper.step()
    stepper.writer.close()

    assert not list(tmp_path.glob("*.part"))
    replays = list(replay_directory(tmp_path, {"stock": SPEC}))
    assert all(r.difference is None and not r.cut for r in replays)
    assert sum(r.steps for r in replays) == stepper.steps
    assert stepper.core.state.shelves.untaken is None


def test_what_a_full_buffer_loses_while_slices_are_taken_leaves_no_wrong_step(
    stepper: Stepper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "BUFFER_BYTES", 300)
    while segments(tmp_path) < 6 or not stepper.writer.dropped:
        stepper.step()
    stepper.writer.close()

    replays = list(replay_directory(tmp_path, {"stock": SPEC}))
    assert all(r.difference is None and not r.cut for r in replays)
    assert sum(r.steps for r in replays) == stepper.steps - stepper.writer.dropped
