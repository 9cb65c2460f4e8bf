"""KV that comes by transfer: one after the other, what is missing, beside running steps."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.timing import FAR, NODE, RACK
from argosy.engine.profile import Profile


def transfer_us(bench: Any, tokens: int, far: int = NODE) -> int:
    return round(1e3 * bench.profile.kv_transfer_ms(tokens, far))


@pytest.mark.parametrize("far", [NODE, RACK, FAR])
def test_a_pull_takes_what_its_tokens_and_the_distance_cost(
    bench: Any, prompt: Any, far: int
) -> None:
    rates = (40.0, 20.0, 10.0)
    profile = Profile(transfer_ms=3, kv_bytes_per_token=10_000_000, transfer_gb_per_s=rates)
    runner = bench(profile=profile)
    runner.add("one", prompt(30), 3, pull=True, far=far)
    runner.run()
    assert runner.pulled == [(round(1e3 * (3 + 30 * 10 / rates[far])), "one")]


def test_the_first_token_comes_a_decode_step_after_the_pull(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("one", prompt(30), 3, pull=True)
    steps = runner.run()
    assert [len(planned.shares[0].decoding) for planned in steps] == [1, 1, 1]
    assert [planned.shares[0].prefill_tokens for planned in steps] == [0, 0, 0]
    step_us = round(1e3 * runner.profile.decode_step_ms(8 / runner.blocks, 1))
    first = runner.tokens["one"][0]
    assert (first.at_us, first.first) == (transfer_us(runner, 30) + step_us, True)


def test_blocks_pulled_are_told_once_the_pull_is_over(bench: Any, prompt: Any) -> None:
    runner = bench()
    one = runner.add("one", prompt(16), 2, pull=True)
    runner.run()
    at_us, change = runner.changes[0]
    # The last token's block is full when a decode step has computed that one.
    assert (at_us, change.stored) == (transfer_us(runner, 16), one.hashes[:3])
    at_us, change = runner.changes[1]
    assert (at_us, change.stored) == (runner.tokens["one"][0].at_us, one.hashes[3:4])


@settings(max_examples=examples(40))
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_pulls_take_turns_on_the_link(bench: Any, prompt: Any, lengths: list[int]) -> None:
    runner = bench(blocks=100, running=8)
    sequences = [
        runner.add(str(number), prompt(length, number), 1, pull=True)
        for number, length in enumerate(lengths)
    ]
    runner.run()
    ends_us = [sequence.ready_us for sequence in sequences]
    took_us = [later - earlier for earlier, later in pairwise([0, *ends_us])]
    assert took_us == [transfer_us(runner, length) for length in lengths]


def test_a_link_left_idle_is_free_at_once(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("one", prompt(10, 1), 1, pull=True)
    runner.run()
    began_us = runner.now_us
    two = runner.add("two", prompt(10, 2), 1, pull=True)
    runner.run()
    assert two.ready_us == began_us + transfer_us(runner, 10)


def test_only_tokens_that_are_not_cached_are_moved(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("before", prompt(30), 1)
    runner.run()
    began_us = runner.now_us
    again = runner.add("again", prompt(30), 1, pull=True)
    runner.run()
    assert again.cached == 28
    assert again.ready_us == began_us + transfer_us(runner, 2)


def test_running_answers_do_not_wait_for_a_pull(bench: Any, prompt: Any) -> None:
    """A step beside it costs what its blocks in use make it cost, and nothing for the link."""
    runner = bench()
    runner.add("runs", prompt(4, 1), 12)
    pulls = runner.add("pulls", prompt(60, 2), 1, pull=True)
    runner.run()
    during = [token.at_us for token in runner.tokens["runs"] if token.at_us <= pulls.ready_us]
    assert len(during) >= 5
    most_used_blocks = 15 + 4
    step_ms = runner.profile.decode_step_ms(most_used_blocks / runner.blocks, 1)
    assert max(later - earlier for earlier, later in pairwise(during)) <= 1e3 * step_ms


def test_pulls_keep_their_place_in_the_queue(bench: Any, prompt: Any) -> None:
    runner = bench(blocks=11, running=4)
    runner.add("runs", prompt(20, 1), 8)
    runner.add("no room", prompt(28, 2), 1, pull=True)
    runner.add("small", prompt(2, 3), 1, pull=True)
    runner.run()
    assert runner.ended == ["runs", "no room", "small"]


def test_a_pull_that_is_removed_frees_its_blocks_and_tells_nobody(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("gone", prompt(30), 5, pull=True)
    events = [(1000, lambda: runner.scheduler.remove("gone"))]
    assert runner.run(events) == []
    assert runner.scheduler.stats().kv_used_blocks == 0
    assert (runner.pulled, runner.tokens["gone"], runner.known()) == ([], [], [set()])


def test_a_pulling_sequence_counts_as_running_and_has_nothing_queued(
    bench: Any, prompt: Any
) -> None:
    runner = bench(running=1)
    for number in range(2):
        runner.add(str(number), prompt(30, number), 1, pull=True)
    assert runner.scheduler.plan(0) is None
    stats = runner.scheduler.stats()
    assert (stats.running_requests, stats.waiting_requests) == (1, 1)
    assert (stats.queued_prefill_tokens, stats.kv_used_blocks) == (0, 8)
    assert runner.scheduler.next_pull_us() == transfer_us(runner, 30)


def test_steps_planned_ahead_end_with_the_one_in_which_a_pull_does(bench: Any, prompt: Any) -> None:
    runner = bench(steps_max=1 << 20)
    runner.add("runs", prompt(4, 1), 60)
    steps = runner.each_step()
    next(steps)
    pulls = runner.add("pulls", prompt(6, 2), 4, pull=True)
    (planned,) = [p for p in steps if p.started_us < pulls.ready_us <= p.ends_us]
    assert 1 < planned.steps < 4
    assert planned.ends_us - planned.each_us < pulls.ready_us
    assert runner.pulled == [(planned.ends_us, "pulls")]
