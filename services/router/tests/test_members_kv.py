"""What the router believes an instance caches: changes in their order, gaps, snapshots."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from argosy.router.core import effects, events
from argosy.router.core.fleet import kv_holders

MS, S = 1_000, 1_000_000


def taken(router: Any, sequence: int, *blocks: list[int], epoch: str = "e1") -> Any:
    return router.feed(
        events.KvSnapshotTaken,
        instance="decode-0",
        epoch=epoch,
        sequence=sequence,
        blocks=list(blocks),
    )


def held(router: Any, block: int) -> bool:
    return bool(router.state.index.match([block]))


def test_changes_are_taken_in_as_they_come(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [1, 2], 1)
    router.store("decode-0", [3], 2, removed=[2])
    assert [held(router, block) for block in (1, 2, 3)] == [True, False, True]


def test_a_change_is_of_the_rank_that_made_it(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=2)
    router.store("decode-0", [1], 1, dp_rank=1)
    router.store("decode-0", [9], 2, dp_rank=7)
    assert router.state.index.match([1]) == {"decode-0/1": 1}
    assert not held(router, 9)


def test_a_cleared_cache_has_no_block_left_on_any_rank(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=2)
    router.store("decode-0", [1], 1, dp_rank=0)
    router.store("decode-0", [2], 2, dp_rank=1)
    router.store("decode-0", [3], 3, cleared=True)
    assert [held(router, block) for block in (1, 2, 3)] == [False, False, True]


def test_a_change_heard_twice_is_taken_in_once(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [1], 1)
    router.store("decode-0", [], 2, removed=[1])
    assert router.store("decode-0", [1], 1) == []
    assert not held(router, 1)


def test_changes_of_another_epoch_change_nothing(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2")
    router.store("decode-0", [1], 1, epoch="e2")
    before = router.snapshot()
    assert router.store("decode-0", [5], 2, removed=[1], epoch="e1") == []
    assert router.store("decode-0", [5], 9, epoch="e1") == []
    assert taken(router, 9, [5], epoch="e1") == []
    assert router.feed(events.KvSnapshotFailed, instance="decode-0", epoch="e1") == []
    assert router.snapshot() == before


def test_a_new_epoch_and_a_goodbye_leave_no_phantom_blocks(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [1, 2])
    router.join("decode-0", epoch="e2")
    assert router.state.index.match([1, 2]) == {}
    router.store("decode-0", [3], epoch="e2")
    router.leave("decode-0", "e2", "asleep")
    assert router.state.index.match([3]) == {}
    router.store("decode-0", [4], 2, epoch="e2")
    assert router.state.index.match([4]) == {}


def test_a_failed_instance_still_has_what_it_cached_when_it_is_back(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [1])
    router.arrive("a")
    router.fail("a", at="decode-0")
    router.pass_time(MS)
    router.load("decode-0")
    assert held(router, 1)


def test_one_announced_before_now_is_asked_what_it_holds(new_router: Any) -> None:
    router = new_router()
    asked = router.join("decode-0", ago_us=S).one(effects.AskKvSnapshot)
    assert (asked.instance, asked.epoch, asked.address) == ("decode-0", "e1", "decode-0:e1")
    assert router.join("decode-1").all(effects.AskKvSnapshot) == []


def test_a_gap_asks_for_one_snapshot_however_many_changes_follow(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    assert len(router.store("decode-0", [2], 2).all(effects.AskKvSnapshot)) == 1
    for sequence in (3, 5, 9):
        assert router.store("decode-0", [sequence], sequence) == []


def test_a_snapshot_replaces_what_was_believed(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=2)
    router.store("decode-0", [1, 2])
    router.store("decode-0", [9], 5)
    taken(router, 5, [2, 3], [4])
    assert router.state.index.match([1]) == {}
    assert router.state.index.match([2, 3]) == {"decode-0/0": 2}
    assert router.state.index.match([4]) == {"decode-0/1": 1}


def test_changes_heard_while_a_snapshot_is_on_its_way_come_after_it(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [2], 4)
    router.store("decode-0", [], 5, removed=[7])
    router.store("decode-0", [8], 6)
    assert taken(router, 4, [2, 7]) == []
    assert [held(router, block) for block in (2, 7, 8)] == [True, False, True]
    assert router.store("decode-0", [9], 7) == []
    assert held(router, 9)


def test_changes_older_than_the_snapshot_are_in_it_already(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [2], 4)
    router.store("decode-0", [], 5, removed=[2])
    taken(router, 5, [])
    assert not held(router, 2)


def test_a_gap_after_the_snapshot_asks_for_another(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.store("decode-0", [2], 4)
    router.store("decode-0", [3], 6)
    assert len(taken(router, 4, [2]).all(effects.AskKvSnapshot)) == 1
    assert taken(router, 6, [2, 3]) == []
    assert router.store("decode-0", [4], 7) == []


def test_more_changes_than_are_kept_end_in_another_snapshot(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    last = kv_holders.LATER_MAX + 4
    for sequence in range(2, last + 1):
        router.store("decode-0", [sequence], sequence)
    assert len(router.instance("decode-0").kv_later) <= kv_holders.LATER_MAX
    assert len(taken(router, 2, [2]).all(effects.AskKvSnapshot)) == 1


def test_a_snapshot_that_failed_is_asked_for_again_and_not_at_once(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0")
    router.store("decode-0", [3], 3)
    assert router.feed(events.KvSnapshotFailed, instance="decode-0", epoch="e1") == []
    assert router.store("decode-0", [4], 4).all(effects.AskKvSnapshot) == []
    assert router.pass_time(kv_holders.SNAPSHOT_RETRY_US - 1).all(effects.AskKvSnapshot) == []
    assert len(router.pass_time(S).all(effects.AskKvSnapshot)) == 1
    assert router.pass_time(2 * S).all(effects.AskKvSnapshot) == []
    taken(router, 4, [3, 4])
    assert held(router, 4)


@given(
    changes=st.lists(
        st.tuples(st.lists(st.integers(1, 6), max_size=3), st.lists(st.integers(1, 6), max_size=3)),
        min_size=1,
        max_size=12,
    ),
    data=st.data(),
)
def test_whatever_is_lost_the_router_ends_up_knowing_what_is_there(
    new_router: Any, changes: list[tuple[list[int], list[int]]], data: st.DataObject
) -> None:
    router = new_router()
    router.join("decode-0")
    there: set[int] = set()
    asked_at: int | None = None
    pictures: list[set[int]] = [set()]
    for stored, removed in changes:
        there = (there - {*removed}) | {*stored}
        pictures.append(there)
    for sequence, (stored, removed) in enumerate(changes, 1):
        lost = sequence < len(changes) and data.draw(st.booleans(), "lost")
        if not lost:
            told = router.store("decode-0", stored, sequence, removed=removed)
            if told.all(effects.AskKvSnapshot):
                assert asked_at is None
                asked_at = sequence
        if asked_at is not None and data.draw(st.booleans(), "answered"):
            asked_at = None
            if taken(router, sequence, sorted(pictures[sequence])).all(effects.AskKvSnapshot):
                asked_at = sequence
    if asked_at is not None:
        taken(router, len(changes), sorted(there))
    assert {block for block in range(1, 7) if held(router, block)} == there
