"""The pool's books balance whatever happens, and who listens knows what is resident."""

from dataclasses import dataclass

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
from suite_plugin import examples

from argosy.engine.kv.net_changes import NetChanges
from argosy.engine.sim.blocks import BlockPool


def chain(prompt: int) -> list[int]:
    """Hashes of a prompt; prompts of one ten share their first three blocks."""
    return [100 * (prompt // 10 if n < 3 else prompt) + n for n in range(8)]


@dataclass(eq=False)
class Holder:
    """A request: the first `known` of its blocks by hash, and `private` ones."""

    hashes: list[int]
    known: int
    private: int


class PoolUnderLoad(RuleBasedStateMachine):
    """Requests come, grow, compute and go in any order; a listener adds up what it is told."""

    running = Bundle("running")

    @initialize(total=st.integers(1, 20))
    def start(self, total: int) -> None:
        self.pool = BlockPool(total)
        self.holders: list[Holder] = []
        self.heard: set[int] = set()
        self.computed: set[int] = set()

    @rule(target=running, prompt=st.integers(0, 12), private=st.integers(0, 6))
    def acquire(self, prompt: int, private: int) -> object:
        hashes, before = chain(prompt), self.resident()
        hit = self.pool.prefix_hit_blocks(hashes)
        assert set(hashes[:hit]) <= before
        assert hit == len(hashes) or hashes[hit] not in before
        room, used = self.pool.available, self.pool.used
        needed = len(set(hashes[:hit]) - self.referenced()) + private
        accepted = self.pool.acquire(hashes[:hit], private)
        assert accepted == (needed <= room)
        if not accepted:
            assert (self.resident(), self.pool.used) == (before, used)
            return multiple()
        assert self.resident() <= before
        self.holders.append(Holder(hashes, hit, private))
        return self.holders[-1]

    @rule(holder=running)
    def grow(self, holder: Holder) -> None:
        room = self.pool.available
        assert self.pool.grow() == (room > 0)
        holder.private += room > 0

    @rule(holder=running, blocks=st.integers(1, 4))
    def register(self, holder: Holder, blocks: int) -> None:
        found = holder.hashes[holder.known :][: min(blocks, holder.private)]
        before = self.resident()
        self.pool.register(found)
        self.computed |= set(found)
        holder.known += len(found)
        holder.private -= len(found)
        assert self.resident() == before | set(found)

    @rule(holder=consumes(running))
    def release(self, holder: Holder) -> None:
        before = self.resident()
        self.pool.release(holder.hashes[: holder.known], holder.private)
        self.holders.remove(holder)
        assert self.resident() == before

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        assert self.resident() == self.referenced()
        self.computed = self.referenced()

    @rule()
    def listen(self) -> None:
        change = self.pool.take_changes()
        gained, lost = self.resident() - self.heard, self.heard - self.resident()
        assert (change is None) == (not gained and not lost)
        if change is not None:
            assert (sorted(change.stored), sorted(change.removed)) == (sorted(gained), sorted(lost))
            assert not change.cleared
        self.heard = self.resident()

    @invariant()
    def books_balance(self) -> None:
        pool = self.pool
        pool.check()
        assert pool.used == len(self.referenced()) + sum(h.private for h in self.holders)
        assert pool.used + pool.available == pool.total
        cached = self.resident() - self.referenced()
        assert pool.used + len(cached) <= pool.total
        # Once each: no block is both in use and cached.
        assert len(pool.known_blocks()) == len(self.resident())
        assert self.referenced() <= self.resident() <= self.computed

    def resident(self) -> set[int]:
        return set(self.pool.known_blocks())

    def referenced(self) -> set[int]:
        return {block for holder in self.holders for block in holder.hashes[: holder.known]}


TestPoolUnderLoad = PoolUnderLoad.TestCase
TestPoolUnderLoad.settings = settings(max_examples=examples(60), stateful_step_count=40)


def use(pool: BlockPool, hashes: list[int], computed: int | None = None) -> Holder:
    """A request that has its blocks, of which `computed` (or all) are computed."""
    hit = pool.prefix_hit_blocks(hashes)
    assert pool.acquire(hashes[:hit], len(hashes) - hit)
    known = len(hashes) if computed is None else max(hit, computed)
    pool.register(hashes[hit:known])
    return Holder(hashes, known, len(hashes) - known)


def end(pool: BlockPool, holder: Holder) -> None:
    pool.release(holder.hashes[: holder.known], holder.private)


def test_a_block_is_known_and_told_once_it_is_computed_and_not_before() -> None:
    pool = BlockPool(8)
    holder = use(pool, [1, 2, 3], computed=0)
    assert (pool.used, pool.known_blocks(), pool.take_changes()) == (3, [], None)
    assert pool.prefix_hit_blocks([1, 2, 3]) == 0
    pool.register([1, 2])
    change = pool.take_changes()
    assert change is not None
    assert (change.stored, pool.prefix_hit_blocks([1, 2, 3]), pool.used) == ([1, 2], 2, 3)
    end(pool, Holder(holder.hashes, 2, 1))
    assert pool.known_blocks() == [2, 1]


def test_a_block_two_requests_computed_at_once_is_kept_once() -> None:
    pool = BlockPool(8)
    for _ in range(2):
        assert pool.acquire((), 2)
    pool.register([1, 2])
    assert pool.used == 4
    pool.register([1, 2])
    assert pool.used == 2
    for left in (2, 0):
        pool.release([1, 2], 0)
        assert pool.used == left


def test_a_prompts_blocks_stay_for_the_next_that_begins_alike() -> None:
    pool = BlockPool(8)
    end(pool, use(pool, [1, 2, 3, 4], computed=3))
    assert pool.prefix_hit_blocks([1, 2, 9]) == 2
    assert (pool.used, pool.available) == (0, 8)


def test_a_block_two_requests_need_is_counted_once_and_kept_for_the_second() -> None:
    pool = BlockPool(4)
    first = use(pool, [1, 2])
    use(pool, [1, 3])
    end(pool, first)
    assert pool.used == 2
    assert not pool.acquire((), 3)


def test_blocks_in_use_by_another_need_no_room() -> None:
    pool = BlockPool(4)
    use(pool, [1, 2])
    use(pool, [1, 2, 3, 4])
    assert (pool.used, pool.available) == (4, 0)


def test_room_is_made_from_the_end_of_the_prompt_used_longest_ago() -> None:
    pool = BlockPool(4)
    for prompt in ([1, 2], [3, 4]):
        end(pool, use(pool, prompt))
    pool.take_changes()
    use(pool, [5])
    change = pool.take_changes()
    assert change is not None
    assert (change.stored, change.removed) == ([5], [2])
    assert pool.prefix_hit_blocks([3, 4]) == 2


def test_blocks_of_a_prompt_that_does_not_fit_are_not_evicted() -> None:
    pool = BlockPool(3)
    end(pool, use(pool, [1]))
    pool.take_changes()
    assert not pool.acquire((), 4)
    assert not pool.acquire([1], 3)
    assert pool.prefix_hit_blocks([1]) == 1
    assert pool.take_changes() is None


def test_clearing_forgets_what_nobody_uses_and_nothing_else() -> None:
    pool = BlockPool(4)
    end(pool, use(pool, [1, 2]))
    use(pool, [3])
    pool.take_changes()
    pool.clear()
    change = pool.take_changes()
    assert change is not None
    assert (change.stored, sorted(change.removed), change.cleared) == ([], [1, 2], False)
    assert (pool.known_blocks(), pool.available) == ([3], 3)


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
