"""Data-parallel ranks: steps in lockstep, each with its own queue, blocks and link."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

STEP_TOKENS = 16


def test_a_step_lasts_as_long_as_its_slowest_rank(bench: Any, prompt: Any) -> None:
    runner = bench(dp_ranks=3)
    runner.add("short", prompt(2, 1), 1, rank=0)
    runner.add("long", prompt(14, 2), 1, rank=2)
    (both,) = runner.run()
    assert both.each_us == round(1e3 * runner.profile.prefill_step_ms(14))
    assert both.shares[1] is None
    assert [tokens[0].at_us for tokens in runner.tokens.values()] == [both.ends_us] * 2


@settings(max_examples=examples(40))
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(0, 2)), min_size=1, max_size=9
    )
)
def test_every_step_of_every_rank_takes_the_longest_share(
    bench: Any, prompt: Any, requests: list[tuple[int, int, int]]
) -> None:
    runner = bench(blocks=30, dp_ranks=3)
    for number, (length, answer, rank) in enumerate(requests):
        runner.add(str(number), prompt(length, number), answer, rank=rank)
    for planned in runner.each_step():
        shares_ms = [share.duration_ms for share in planned.shares if share is not None]
        assert planned.each_us == round(1e3 * max(shares_ms))
    assert len(runner.ended) == len(requests)


def test_ranks_do_not_share_their_caches(bench: Any, prompt: Any) -> None:
    runner = bench(dp_ranks=2)
    for name, rank in (("first", 0), ("other rank", 1), ("same rank", 0)):
        runner.add(name, prompt(12), 1, rank=rank)
        runner.run()
    cached = {name: sequence.cached for name, sequence in runner.sequences.items()}
    assert cached == {"first": 0, "other rank": 0, "same rank": 8}


def test_changes_name_the_rank_whose_blocks_they_are(bench: Any, prompt: Any) -> None:
    runner = bench(dp_ranks=2)
    one = runner.add("one", prompt(8), 1, rank=1)
    runner.run()
    ((_, change),) = runner.changes
    assert (change.dp_rank, change.stored) == (1, one.hashes[:2])


def test_a_full_rank_does_not_use_anothers_blocks(bench: Any, prompt: Any) -> None:
    runner = bench(blocks=8, dp_ranks=2)
    runner.add("held", prompt(28, 1), 1, hold=True, rank=0)
    runner.add("waits", prompt(28, 2), 1, rank=0)
    runner.add("runs", prompt(28, 3), 1, rank=1)
    runner.run()
    assert runner.ended == ["held", "runs"]
    assert [part.waiting_requests for part in runner.scheduler.stats().ranks] == [1, 0]


def test_each_rank_has_a_step_budget_of_its_own(bench: Any, prompt: Any) -> None:
    runner = bench(dp_ranks=2)
    for rank in range(2):
        runner.add(str(rank), prompt(2 * STEP_TOKENS, rank), 1, rank=rank)
    steps = runner.run()
    assert [[share.prefill_tokens for share in planned.shares] for planned in steps] == [
        [STEP_TOKENS] * 2
    ] * 2


def test_each_rank_pulls_over_a_link_of_its_own(bench: Any, prompt: Any) -> None:
    runner = bench(dp_ranks=2)
    pulls = [runner.add(str(rank), prompt(10, rank), 1, pull=True, rank=rank) for rank in range(2)]
    runner.run()
    assert pulls[0].ready_us == pulls[1].ready_us


def test_stats_are_the_sums_of_the_ranks_which_are_told_where_there_are_several(
    bench: Any, prompt: Any
) -> None:
    runner = bench(dp_ranks=2, running=1)
    for name, rank in (("a", 0), ("b", 1), ("c", 1)):
        runner.add(name, prompt(12, ord(name)), 3, rank=rank)
    next(runner.each_step())
    stats = runner.scheduler.stats()
    found = [
        (
            part.running_requests,
            part.waiting_requests,
            part.queued_prefill_tokens,
            part.kv_used_blocks,
        )
        for part in (*stats.ranks, stats)
    ]
    assert found == [(1, 0, 12, 3), (1, 1, 24, 3), (2, 1, 36, 6)]
    assert bench(dp_ranks=1).scheduler.stats().ranks == ()
