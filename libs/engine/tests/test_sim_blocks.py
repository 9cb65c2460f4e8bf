"""The pool's books balance whatever happens, and who listens knows what is resident."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from argosy.engine.changes import NetChanges
from argosy.engine.sim.blocks import BlockPool


def chain(prompt: int, blocks: int) -> list[int]:
    """Hashes of a prompt; prompts of one ten share their first three blocks."""
    return [100 * (prompt // 10 if n < 3 else prompt) + n for n in range(blocks)]


class PoolUnderLoad(RuleBasedStateMachine):
    """Requests come, grow and go in any order; a listener adds up what it is told."""

    running = Bundle("running")

    @initialize(total=st.integers(1, 20))
    def start(self, total: int) -> None:
        self.pool = BlockPool(total)
        self.owned: list[list[object]] = []
        self.heard: set[int] = set()

    @rule(
        target=running,
        prompt=st.integers(0, 30),
        blocks=st.integers(0, 8),
        private=st.integers(0, 2),
    )
    def acquire(self, prompt: int, blocks: int, private: int) -> object:
        hashes = chain(prompt, blocks)
        room = self.pool.available
        needed = len(set(hashes) - self.referenced()) + private
        accepted = self.pool.acquire(hashes, private)
        assert accepted == (needed <= room)
        if not accepted:
            assert self.pool.available == room
            return multiple()
        request: list[object] = [hashes, private]
        self.owned.append(request)
        return request

    @rule(request=running)
    def grow(self, request: list) -> None:  # type: ignore[type-arg]
        room = self.pool.available
        assert self.pool.grow() == (room > 0)
        request[1] += room > 0

    @rule(request=consumes(running))
    def release(self, request: list) -> None:  # type: ignore[type-arg]
        self.pool.release(*request)
        self.owned = [other for other in self.owned if other is not request]
        assert self.pool.prefix_hit_blocks(request[0]) == len(request[0])

    @rule()
    def listen(self) -> None:
        change = self.pool.take_changes()
        if change is not None:
            assert not set(change.stored) & set(change.removed)
            assert not set(change.stored) & self.heard
            assert set(change.removed) <= self.heard
            self.heard = self.heard - set(change.removed) | set(change.stored)
        assert self.heard == set(self.pool._references) | set(self.pool._cached)

    @invariant()
    def books_balance(self) -> None:
        self.pool.check()
        private = sum(request[1] for request in self.owned)  # type: ignore[misc]
        assert self.pool.used == len(self.referenced()) + private  # type: ignore[operator]

    def referenced(self) -> set[int]:
        return {block for hashes, _ in self.owned for block in hashes}  # type: ignore[attr-defined]


TestPoolUnderLoad = PoolUnderLoad.TestCase
TestPoolUnderLoad.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_prompts_blocks_stay_for_the_next_that_begins_alike() -> None:
    pool = BlockPool(8)
    pool.acquire([1, 2, 3], 1)
    pool.release([1, 2, 3], 1)
    assert pool.prefix_hit_blocks([1, 2, 9]) == 2
    assert (pool.used, pool.available) == (0, 8)


def test_a_block_two_requests_need_is_counted_once_and_kept_for_the_second() -> None:
    pool = BlockPool(4)
    pool.acquire([1, 2], 0)
    pool.acquire([1, 3], 0)
    pool.release([1, 2], 0)
    assert pool.used == 2
    assert not pool.acquire([4, 5, 6], 0)


def test_room_is_made_from_the_end_of_the_prompt_used_longest_ago() -> None:
    pool = BlockPool(4)
    for prompt in ([1, 2], [3, 4]):
        pool.acquire(prompt, 0)
        pool.release(prompt, 0)
    pool.take_changes()
    pool.acquire([5], 0)
    change = pool.take_changes()
    assert change is not None
    assert (change.stored, change.removed) == ([5], [2])
    assert pool.prefix_hit_blocks([3, 4]) == 2


def test_blocks_of_a_prompt_that_does_not_fit_are_not_evicted() -> None:
    pool = BlockPool(3)
    pool.acquire([1], 0)
    pool.release([1], 0)
    pool.take_changes()
    assert not pool.acquire([2, 3, 4], 1)
    assert pool.prefix_hit_blocks([1]) == 1
    assert pool.take_changes() is None


def test_unbalanced_books_are_reported_with_all_terms() -> None:
    pool = BlockPool(1)
    pool._private = 2
    with pytest.raises(AssertionError, match="used 2 \\+ cached 0 of total 1"):
        pool.check()


def test_a_block_that_came_and_went_is_no_change() -> None:
    changes = NetChanges()
    changes.store(1)
    changes.remove(1)
    assert changes.take() is None


def test_a_block_that_went_and_came_back_is_no_change() -> None:
    changes = NetChanges()
    changes.remove(1)
    changes.store(1)
    assert changes.take() is None


def test_a_clearing_forgets_what_was_before_it() -> None:
    changes = NetChanges()
    changes.store(1)
    changes.clear()
    changes.store(2)
    change = changes.take()
    assert change is not None
    assert (change.cleared, change.stored, change.removed) == (True, [2], [])
