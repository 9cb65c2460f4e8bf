"""How much the prefix index remembers, and what it forgets first."""

from hypothesis import given
from hypothesis import strategies as st

from argosy.router.core.prefix_index import PrefixIndex

prompts = st.lists(st.integers(0, 400), max_size=12)


@given(blocks_max=st.integers(2, 60), stored=st.lists(st.tuples(st.sampled_from("abc"), prompts)))
def test_it_never_holds_more_than_its_limit_and_what_was_stored_at_once(
    blocks_max: int, stored: list[tuple[str, list[int]]]
) -> None:
    index = PrefixIndex(blocks_max)
    most_at_once = 0
    for holder, blocks in stored:
        index.store(holder, blocks)
        most_at_once = max(most_at_once, len(blocks))
        assert len(index) <= blocks_max + most_at_once
        held = [block for name in "abc" for block in index.blocks_of(name)]
        assert len(index) == len(set(held))


@given(blocks_max=st.integers(8, 60), stored=st.lists(prompts, max_size=40))
def test_what_was_stored_last_up_to_half_the_limit_is_found(
    blocks_max: int, stored: list[list[int]]
) -> None:
    index = PrefixIndex(blocks_max)
    lately: list[int] = []
    for blocks in stored:
        index.store("a/0", blocks)
        lately = [block for block in lately if block not in blocks] + [*dict.fromkeys(blocks)]
    for block in lately[-(blocks_max // 2) :]:
        assert index.match([block]) == {"a/0": 1}


def test_what_is_dispatched_stays_while_what_is_not_goes() -> None:
    index = PrefixIndex(100)
    index.store("a/0", [1, 2, 3])
    index.store("b/0", [4, 5, 6])
    for turn in range(20):
        index.store("a/0", range(1000 + 20 * turn, 1020 + 20 * turn))
        index.add_speculative("a/0", [1, 2, 3], turn)
        index.forget_speculative(turn)
    assert index.match([1, 2, 3]) == {"a/0": 3}
    assert index.match([4]) == {}


def test_a_forgotten_block_can_be_stored_anew_by_one_of_its_holders() -> None:
    index = PrefixIndex(8)
    index.store("a/0", [1])
    index.store("b/0", [1])
    index.store("a/0", range(10, 20))
    index.store("a/0", range(20, 30))
    assert index.match([1]) == {}
    index.store("b/0", [1])
    assert index.match([1]) == {"b/0": 1}


@given(
    blocks_max=st.integers(4, 40),
    before=st.lists(st.tuples(st.sampled_from("abc"), prompts), max_size=20),
    after=st.lists(st.tuples(st.sampled_from("abc"), prompts), max_size=20),
)
def test_one_made_from_an_image_answers_and_forgets_as_the_first(
    blocks_max: int, before: list[tuple[str, list[int]]], after: list[tuple[str, list[int]]]
) -> None:
    index = PrefixIndex(blocks_max)
    for holder, blocks in before:
        index.store(holder, blocks)
    twin = PrefixIndex.from_snapshot(index.to_snapshot())
    for holder, blocks in ((".", []), *after):
        index.store(holder, blocks)
        twin.store(holder, blocks)
        for block in range(400):
            assert twin.match([block]) == index.match([block])
