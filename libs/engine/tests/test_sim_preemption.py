"""When KV runs out the newest gives way, is computed again, and still gets all its tokens."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

ROOM = 16
"""Blocks, of 4 tokens each."""


def test_the_newest_gives_way_and_later_gets_all_its_tokens(bench: Any, prompt: Any) -> None:
    runner = bench(blocks=ROOM)
    for number in range(3):
        runner.add(str(number), prompt(16, number), 40)
    runner.run()
    preempted = {name for name, one in runner.sequences.items() if one.preemptions}
    assert "2" in preempted
    assert "0" not in preempted
    assert [len(tokens) for tokens in runner.tokens.values()] == [40] * 3
    assert runner.ended == ["0", "1", "2"]
    assert runner.scheduler.stats().kv_used_blocks == 0


def test_who_was_preempted_is_computed_again_in_chunks_with_its_answer_so_far(
    bench: Any, prompt: Any
) -> None:
    runner = bench(blocks=10)
    runner.add("old", prompt(16, 1), 24)
    new = runner.add("new", prompt(16, 2), 8)
    again, produced = [], set()
    for planned in runner.each_step():
        (share,) = planned.shares
        if new.preemptions:
            again += [tokens for one, tokens in share.chunks if one is new]
            produced |= {new.produced} if share.chunks else set()
    assert new.preemptions == 1
    # The older one has outgrown every block it had.
    (answered,) = produced
    assert 0 < answered < new.answer_tokens
    assert again == [16, answered]
    assert [token.first for token in runner.tokens["new"]] == [True] + [False] * 7


def test_who_was_preempted_is_next_before_any_that_waited_longer_outside(
    bench: Any, prompt: Any
) -> None:
    runner = bench(blocks=10)
    runner.add("old", prompt(16, 1), 24)
    runner.add("new", prompt(16, 2), 8)
    for number in range(2):
        runner.add(f"waits {number}", prompt(16, 3 + number), 2)
    runner.run()
    assert runner.sequences["new"].preemptions
    assert runner.ended == ["old", "new", "waits 0", "waits 1"]


def test_cached_tokens_are_those_of_the_first_admission(bench: Any, prompt: Any) -> None:
    """Its own blocks, found again after it was preempted, were no gift."""
    runner = bench(blocks=10)
    runner.add("old", prompt(16, 1), 20)
    new = runner.add("new", prompt(16, 2), 8)
    runner.run()
    assert (new.preemptions, new.cached) == (1, 0)


def test_a_pulled_prompt_that_was_preempted_is_not_pulled_again(bench: Any, prompt: Any) -> None:
    runner = bench(blocks=10)
    runner.add("old", prompt(16, 1), 24)
    new = runner.add("new", prompt(16, 2), 8, pull=True)
    runner.run()
    assert new.preemptions == 1
    assert [name for _, name in runner.pulled] == ["new"]
    assert len(runner.tokens["new"]) == 8


@settings(max_examples=examples(80))
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 30), st.integers(0, 3), st.integers(10, 34), st.booleans()),
        min_size=3,
        max_size=8,
    ),
    running=st.integers(2, 8),
    ahead=st.booleans(),
)
def test_nobody_starves_and_no_token_is_lost_or_made_twice_when_kv_is_short(
    bench: Any, prompt: Any, requests: list[tuple[int, int, int, bool]], running: int, ahead: bool
) -> None:
    runner = bench(ROOM, running, steps_max=1 << 20 if ahead else 1)
    for number, (length, family, answer, pull) in enumerate(requests):
        runner.add(str(number), prompt(length, family), answer, pull=pull)
    runner.run()
    for name, sequence in runner.sequences.items():
        tokens = runner.tokens[name]
        assert len(tokens) == sequence.produced == sequence.answer_tokens
        assert [n for n, token in enumerate(tokens) if token.first] == [0]
        assert [n for n, token in enumerate(tokens) if token.last] == [len(tokens) - 1]
    assert len(runner.ended) == len(requests)
    assert runner.scheduler.stats().kv_used_blocks == 0
