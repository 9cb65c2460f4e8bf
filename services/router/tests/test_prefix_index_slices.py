"""A snapshot taken in slices is the index at the step of its last slice, whatever happened."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.router.core import prefix_index, prefix_index_slices
from argosy.router.core.prefix_index import PrefixIndex

blocks = st.lists(st.integers(0, 60), max_size=20)
holders = st.sampled_from(["a/0", "b/0", "c/0"])
changes = st.lists(
    st.one_of(
        st.tuples(st.just("store"), holders, blocks),
        st.tuples(st.just("remove"), holders, blocks),
        st.tuples(st.just("wipe"), holders),
        st.tuples(st.just("add_speculative"), holders, blocks, st.integers(1, 9)),
        st.tuples(st.just("forget_speculative"), st.integers(1, 9)),
        st.tuples(st.just("sweep")),
        st.tuples(st.just("slice")),
    ),
    max_size=40,
)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small index takes many slices, and a sweep several calls."""
    monkeypatch.setattr(prefix_index_slices, "SLICE_BLOCKS", 3)
    monkeypatch.setattr(prefix_index, "SWEEP_BLOCKS", 2)


def as_sent(plain: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(plain))


def contents(index: PrefixIndex) -> Any:
    """All that decides what the index answers from now on."""
    return (
        index._young,
        index._old,
        len(index),
        index._young_blocks,
        index._generation,
        index._bits,
        (index._live, index._dead, index._sweeping, index._swept_shards),
        list(index._speculated),
        index._speculative,
        {bit: again for bit, again in index._speculated_again.items() if again},
    )


def apply(index: PrefixIndex, change: tuple[Any, ...]) -> None:
    name, *arguments = change
    getattr(index, name)(*arguments)


@given(blocks_max=st.integers(4, 80), before=changes, during=changes, after=changes)
def test_slices_taken_while_the_index_changes_are_the_index_at_the_last_one(
    blocks_max: int,
    before: list[tuple[Any, ...]],
    during: list[tuple[Any, ...]],
    after: list[tuple[Any, ...]],
) -> None:
    index = PrefixIndex(blocks_max)
    for change in before:
        if change != ("slice",):
            apply(index, change)
    index.start_slices()
    taken = []
    for change in during:
        if change != ("slice",):
            apply(index, change)
        elif (data := index.next_slice()) is not None:
            taken.append(data)
    taken.append(index.last_slice())
    rest = as_sent(index.to_snapshot())
    index.stop_slices()

    twin = PrefixIndex.from_snapshot(rest)
    for data in taken:
        twin.add_slice(data)
    assert contents(twin) == contents(index)
    for change in after:
        if change != ("slice",):
            apply(index, change)
            apply(twin, change)
    assert contents(twin) == contents(index)


@given(before=changes)
def test_a_snapshot_in_one_piece_is_the_index(before: list[tuple[Any, ...]]) -> None:
    index = PrefixIndex(40)
    for change in before:
        if change != ("slice",):
            apply(index, change)
    assert contents(PrefixIndex.from_snapshot(as_sent(index.to_snapshot()))) == contents(index)


@given(before=changes, during=changes)
def test_slices_come_to_an_end_once_the_index_rests(
    before: list[tuple[Any, ...]], during: list[tuple[Any, ...]]
) -> None:
    index = PrefixIndex(40)
    index.start_slices()
    for change in (*before, *during):
        if change != ("slice",):
            apply(index, change)
    most = sum(len(change[2]) for change in (*before, *during) if len(change) > 2)
    # Every slice but the last has SLICE_BLOCKS changed blocks; sweeps add what they change.
    for _ in range(2 * (most + 60)):
        if index.next_slice() is None:
            break
    else:
        pytest.fail("slices never came to an end")
