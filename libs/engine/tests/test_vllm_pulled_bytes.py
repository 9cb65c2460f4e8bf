"""Whose the bytes are that vLLM reports."""

from hypothesis import given
from hypothesis import strategies as st

from argosy.engine.vllm.pulled_bytes import PulledBytes


def test_the_bytes_reported_during_a_pull_are_the_requests() -> None:
    pulls = PulledBytes()
    pulls.begin("a")
    pulls.reported([100, 20])
    pulls.reported([3])
    assert pulls.take("a") == 123
    assert pulls.take("a") == 0


def test_bytes_are_nobodys_when_pulls_overlap() -> None:
    pulls = PulledBytes()
    pulls.begin("a")
    pulls.reported([100])
    pulls.begin("b")
    pulls.reported([7])
    assert pulls.take("a") == 0
    pulls.reported([9])
    assert pulls.take("b") == 0
    pulls.begin("c")
    pulls.reported([5])
    assert pulls.take("c") == 5


def test_bytes_that_may_be_an_abandoned_pulls_are_nobodys() -> None:
    pulls = PulledBytes()
    pulls.begin("a")
    pulls.abandon("a")
    pulls.begin("b")
    pulls.reported([100, 7])
    assert pulls.take("b") == 0
    pulls.begin("c")
    pulls.reported([5])
    assert pulls.take("c") == 5


def test_the_end_of_an_older_pull_says_nothing_of_an_abandoned_one() -> None:
    pulls = PulledBytes()
    pulls.begin("a")
    pulls.begin("b")
    pulls.abandon("a")
    pulls.take("b")
    pulls.begin("c")
    pulls.reported([100, 7])
    assert pulls.take("c") == 0


def test_a_request_that_is_over_after_its_pull_abandons_nothing() -> None:
    pulls = PulledBytes()
    pulls.begin("a")
    pulls.reported([1])
    pulls.take("a")
    pulls.abandon("a")
    pulls.begin("b")
    pulls.reported([2])
    assert pulls.take("b") == 2


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 1000)), max_size=40))
def test_a_request_is_never_said_to_have_pulled_the_bytes_of_another(
    moves: list[tuple[str, int]],
) -> None:
    """Each request's transfer ends, and is reported, just before its `take`."""
    pulls = PulledBytes()
    own: dict[str, int] = {}
    for request_id, size in moves:
        if request_id not in own:
            pulls.begin(request_id)
            own[request_id] = size
        else:
            moved = own.pop(request_id)
            pulls.reported([moved])
            assert pulls.take(request_id) in (0, moved)
