"""Which blocks of a prompt the sim engine knows already, and when others hear of them."""

from typing import Any

BLOCK_TOKENS = 4


def test_blocks_are_told_as_they_are_computed_chunk_by_chunk(bench: Any, prompt: Any) -> None:
    runner = bench()
    one = runner.add("one", prompt(42), 1)
    told = [
        [block for _, change in runner.changes for block in change.stored]
        for _ in runner.each_step()
    ]
    assert told == [[], one.hashes[:4], one.hashes[:8]]
    assert [change.stored for _, change in runner.changes] == [
        one.hashes[:4],
        one.hashes[4:8],
        one.hashes[8:10],
    ]


def test_a_prompt_being_computed_is_no_hit_for_the_next_until_it_is(
    bench: Any, prompt: Any
) -> None:
    runner = bench()
    for name in ("first", "at once"):
        runner.add(name, prompt(8), 1)
    runner.run()
    later = runner.add("later", prompt(8), 1)
    runner.run()
    assert [runner.sequences[name].cached for name in ("first", "at once")] == [0, 0]
    assert later.cached == 4


def test_a_prompt_seen_before_is_cached_but_for_the_block_of_its_last_token(
    bench: Any, prompt: Any
) -> None:
    runner = bench()
    for name in ("first", "again"):
        runner.add(name, prompt(12), 1)
        runner.run()
    assert [runner.sequences[name].cached for name in ("first", "again")] == [0, 8]


def test_only_whole_blocks_of_a_common_beginning_are_cached(bench: Any) -> None:
    runner = bench()
    runner.add("first", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    runner.run()
    second = runner.add("second", [1, 2, 3, 4, 5, 6, 99, 98, 97])
    runner.run()
    assert second.cached == BLOCK_TOKENS


def test_a_cached_prompt_is_computed_only_from_where_it_differs(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("first", prompt(32), 1)
    runner.run()
    runner.add("again", [*prompt(32), 5, 5], 1)
    (share,) = runner.run()[0].shares
    assert (share.prefill_tokens, len(share.chunks)) == (2, 1)


def test_an_answers_blocks_are_known_to_the_next_turn_but_for_its_last_token(
    bench: Any, prompt: Any
) -> None:
    """The last token's KV is never computed."""
    runner = bench()
    turn = runner.add("turn", prompt(10), 10)
    runner.run()
    assert runner.known() == [set(turn.hashes[:4])]
    assert len(turn.hashes) == 5


def test_an_evicted_block_is_told_as_removed_and_computed_again(bench: Any, prompt: Any) -> None:
    runner = bench(blocks=8)
    for name, family in (("first", 1), ("other", 2), ("first again", 1)):
        runner.add(name, prompt(28, family), 1)
        runner.run()
    # Six of seven blocks had to go: the last ones of the prompt.
    assert runner.sequences["first again"].cached == BLOCK_TOKENS
    assert any(change.removed for _, change in runner.changes)
    assert runner.heard() == runner.known()
