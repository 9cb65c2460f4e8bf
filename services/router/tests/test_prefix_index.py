"""The prefix index against the plainest model of it, whatever happens in whatever order."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from suite_plugin import examples

from argosy.router.core import prefix_index as core
from argosy.router.core.prefix_index import PrefixIndex

SPECULATIVE_US = 50
PROMPTS = [[1, 2, 3, 4], [1, 2, 5], [1, 6], [7, 8, 9], [9], [4, 3, 2, 1], []]

holders = st.sampled_from(["a/0", "a/1", "b/0", "c/0", "d/0", "e/0"])
blocks = st.lists(st.integers(1, 9), max_size=5)


def leading(prompt: Sequence[int], held: set[int]) -> int:
    for depth, block in enumerate(prompt):
        if block not in held:
            return depth
    return len(prompt)


class Naive:
    """Sets of blocks by holder, and speculative with the time each is believed to."""

    def __init__(self) -> None:
        self.held: dict[str, set[int]] = {}
        self.speculated: dict[str, dict[int, int]] = {}

    def store(self, holder: str, found: Sequence[int]) -> None:
        self.held.setdefault(holder, set()).update(found)

    def remove(self, holder: str, found: Sequence[int]) -> None:
        self.held.get(holder, set()).difference_update(found)

    def wipe(self, holder: str) -> None:
        self.held.pop(holder, None)
        self.speculated.pop(holder, None)

    def add_speculative(self, holder: str, found: Sequence[int], until_us: int) -> None:
        self.speculated.setdefault(holder, {}).update(dict.fromkeys(found, until_us))

    def forget_speculative(self, now_us: int) -> None:
        for holder, speculative in self.speculated.items():
            self.speculated[holder] = {
                b: until for b, until in speculative.items() if until > now_us
            }

    def match(self, prompt: Sequence[int]) -> dict[str, int]:
        found = {
            holder: leading(
                prompt, self.held.get(holder, set()) | {*self.speculated.get(holder, {})}
            )
            for holder in {*self.held, *self.speculated}
        }
        return {holder: depth for holder, depth in found.items() if depth}


class AnyIndexOrder(RuleBasedStateMachine):
    """An index, the naive model, and an index made anew from the first one's snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(1_000_000)
        self.naive = Naive()
        self.now_us = 0

    @rule(holder=holders, found=blocks)
    def store(self, holder: str, found: list[int]) -> None:
        self.index.store(holder, found)
        self.naive.store(holder, found)

    @rule(holder=holders, found=blocks)
    def remove(self, holder: str, found: list[int]) -> None:
        self.index.remove(holder, found)
        self.naive.remove(holder, found)

    @rule(holder=holders)
    def wipe(self, holder: str) -> None:
        self.index.wipe(holder)
        self.naive.wipe(holder)

    @rule(holder=holders, found=blocks)
    def add_speculative(self, holder: str, found: list[int]) -> None:
        self.index.add_speculative(holder, found, self.now_us + SPECULATIVE_US)
        self.naive.add_speculative(holder, found, self.now_us + SPECULATIVE_US)

    @rule(us=st.sampled_from([1, SPECULATIVE_US - 1, SPECULATIVE_US]))
    def forget_speculative(self, us: int) -> None:
        self.now_us += us
        self.index.forget_speculative(self.now_us)
        self.naive.forget_speculative(self.now_us)

    @rule()
    def sweep(self) -> None:
        self.index.sweep()

    @rule()
    def begin_anew_from_its_snapshot(self) -> None:
        self.index = PrefixIndex.from_snapshot(self.index.to_snapshot())

    @invariant()
    def answers_as_the_naive_model(self) -> None:
        for prompt in PROMPTS:
            assert self.index.match(prompt) == self.naive.match(prompt)
        for holder in ("a/0", "b/0"):
            assert self.index.held_by(holder) == len(self.naive.held.get(holder, ()))


class AnyOrderFewAtATime(AnyIndexOrder):
    """As above, when a sweep takes several calls."""

    @rule()
    def sweep(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(core, "SWEEP_BLOCKS", 2)
            self.index.sweep()


TestAnyOrder = AnyIndexOrder.TestCase
TestAnyOrderFewAtATime = AnyOrderFewAtATime.TestCase
TestAnyOrder.settings = settings(max_examples=examples(80), stateful_step_count=40)
TestAnyOrderFewAtATime.settings = TestAnyOrder.settings


def test_a_holder_wiped_has_no_block_left_at_once() -> None:
    index = PrefixIndex(1000)
    index.store("a/0", range(100))
    index.add_speculative("a/0", range(100, 200), 50)
    index.store("b/0", range(100))
    index.wipe("a/0")
    assert (index.held_by("a/0"), index.match([*range(200)])) == (0, {"b/0": 100})


def test_a_wiped_holder_that_comes_back_has_only_what_it_stored_since() -> None:
    index = PrefixIndex(1000)
    index.store("a/0", [1, 2, 3])
    index.wipe("a/0")
    index.store("a/0", [1])
    assert (index.held_by("a/0"), index.match([1, 2, 3])) == (1, {"a/0": 1})


def test_guesses_of_a_wiped_holder_are_never_those_of_the_next_to_get_its_bit() -> None:
    index = PrefixIndex(1000)
    index.add_speculative("a/0", [1, 2], 50)
    index.wipe("a/0")
    index.sweep()
    index.store("b/0", [3])
    assert index.match([1, 2]) == {}
    index.add_speculative("b/0", [1, 2], 99)
    index.forget_speculative(50)
    assert index.match([1, 2]) == {"b/0": 2}


def test_a_guess_made_again_is_believed_for_its_full_time() -> None:
    index = PrefixIndex(1000)
    index.add_speculative("a/0", [1, 2], 50)
    index.add_speculative("a/0", [1], 80)
    index.forget_speculative(50)
    assert index.match([1, 2]) == {"a/0": 1}
    index.forget_speculative(80)
    assert index.match([1, 2]) == {}


@given(lives=st.integers(2, 200), sweeps=st.booleans())
def test_an_instance_that_restarts_often_takes_no_more_bits_if_swept(
    lives: int, sweeps: bool
) -> None:
    """Masks grow with the bits in use: those of the dead must be used again."""
    index = PrefixIndex(1000)
    for _ in range(lives):
        index.store("a/0", [1, 2, 3])
        index.wipe("a/0")
        if sweeps:
            index.sweep()
    index.store("a/0", [1])
    tables = (*index._young, *index._old)
    widest = max(mask.bit_length() for table in tables for mask in table.values())
    assert widest == (1 if sweeps else lives + 1)


@given(holders_alive=st.integers(1, 300))
def test_a_sweep_leaves_nothing_of_the_dead_and_all_of_the_living(holders_alive: int) -> None:
    index = PrefixIndex(1000)
    for number in range(holders_alive):
        index.store(f"i{number}/0", [1, number + 2])
    index.store("dead/0", [1, 999])
    index.wipe("dead/0")
    index.sweep()
    assert 999 not in index._young
    assert index.match([1]) == {f"i{number}/0": 1 for number in range(holders_alive)}
