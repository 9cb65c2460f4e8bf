"""The sim scheduler in virtual time: everyone is served, nothing is kept, order is fair."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

STEP_TOKENS = 16

REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 60),  # prompt tokens
        st.integers(0, 3),  # whose beginning it shares
        st.integers(1, 30),  # answer tokens
        st.sampled_from(["answer", "pull", "hold"]),
    ),
    min_size=1,
    max_size=12,
)


def load(bench: Any, prompt: Any, requests: list[tuple[int, int, int, str]]) -> None:
    for number, (length, family, answer, kind) in enumerate(requests):
        bench.add(
            str(number),
            prompt(length, family),
            answer,
            hold=kind == "hold",
            pull=kind == "pull",
            rank=number % bench.dp_ranks,
        )


@settings(max_examples=examples(60))
@given(
    requests=REQUESTS,
    blocks=st.integers(23, 40),
    running=st.integers(1, 30),
    ranks=st.integers(1, 2),
)
def test_every_request_gets_all_its_tokens_and_leaves_nothing_behind(
    bench: Any,
    prompt: Any,
    requests: list[tuple[int, int, int, str]],
    blocks: int,
    running: int,
    ranks: int,
) -> None:
    runner = bench(blocks, running, ranks, releases_held=True)
    load(runner, prompt, requests)
    for planned in runner.each_step():
        for share in planned.shares:
            if share is not None:
                assert len(share.chunks) + len(share.decoding) <= running
                assert share.prefill_tokens + len(share.decoding) <= STEP_TOKENS

    assert sorted(runner.ended, key=int) == [str(number) for number in range(len(requests))]
    for name, tokens in runner.tokens.items():
        assert len(tokens) == runner.sequences[name].answer_tokens
        assert [token.first for token in tokens] == [True] + [False] * (len(tokens) - 1)
        assert [token.last for token in tokens] == [False] * (len(tokens) - 1) + [True]
        assert sorted({token.at_us for token in tokens}) == [token.at_us for token in tokens]
    stats = runner.scheduler.stats()
    assert (stats.running_requests, stats.waiting_requests) == (0, 0)
    assert (stats.kv_used_blocks, stats.queued_prefill_tokens) == (0, 0)
    assert runner.heard() == runner.known()


@settings(max_examples=examples(60))
@given(
    requests=REQUESTS,
    removed=st.lists(st.tuples(st.integers(0, 900_000), st.integers(0, 11)), max_size=12),
)
def test_after_all_are_removed_no_block_is_used(
    bench: Any,
    prompt: Any,
    requests: list[tuple[int, int, int, str]],
    removed: list[tuple[int, int]],
) -> None:
    runner = bench(blocks=24)
    load(runner, prompt, requests)
    runner.run(
        (at_us, lambda name=str(number): runner.scheduler.remove(name))
        for at_us, number in sorted(removed)
    )
    for number in range(len(requests)):
        runner.scheduler.remove(str(number))
    runner.check()
    stats = runner.scheduler.stats()
    assert (stats.running_requests, stats.waiting_requests, stats.kv_used_blocks) == (0, 0, 0)
    assert runner.scheduler.plan(runner.now_us) is None


def test_held_kv_stays_in_use_until_it_is_removed(bench: Any, prompt: Any) -> None:
    runner = bench()
    held = runner.add("held", prompt(10), 1, hold=True)
    runner.run()
    assert runner.ended == ["held"]
    stats = runner.scheduler.stats()
    assert (stats.kv_used_blocks, stats.running_requests, held.produced) == (3, 0, 1)

    runner.scheduler.remove("held")
    assert runner.scheduler.stats().kv_used_blocks == 0
    runner.scheduler.remove("held")
    assert runner.scheduler.stats().kv_used_blocks == 0


def test_who_has_no_room_beside_held_kv_waits_until_it_is_removed(bench: Any, prompt: Any) -> None:
    runner = bench(blocks=8)
    runner.add("held", prompt(20, 1), 1, hold=True)
    runner.add("waits", prompt(16, 2), 2)
    runner.run()
    assert runner.ended == ["held"]
    runner.scheduler.remove("held")
    runner.run()
    assert runner.ended == ["held", "waits"]


def test_who_comes_first_is_admitted_first_even_when_a_smaller_one_would_fit(
    bench: Any, prompt: Any
) -> None:
    runner = bench(blocks=10)
    for name, length, family in (("big", 30, 1), ("bigger", 34, 2), ("small", 2, 3)):
        runner.add(name, prompt(length, family), 2)
    chunks = [share.chunks for planned in runner.run() for share in planned.shares]
    assert [sequence.key for sequence, _ in chunks[1]] == ["big"]
    assert runner.ended == ["big", "bigger", "small"]


def test_a_request_removed_during_a_step_yields_nothing_from_it(bench: Any, prompt: Any) -> None:
    runner = bench()
    for name in ("stays", "goes"):
        runner.add(name, prompt(4), 2)
    steps = runner.each_step()
    next(steps)
    next(steps)
    runner.scheduler.remove("goes")
    assert list(steps) == []
    assert (len(runner.tokens["goes"]), len(runner.tokens["stays"])) == (1, 2)


def test_queued_tokens_are_those_still_to_be_computed_here(bench: Any, prompt: Any) -> None:
    runner = bench(running=1)
    runner.add("runs", prompt(20, 1), 1)
    runner.add("waits", prompt(30, 2), 1)
    runner.add("pulls", prompt(40, 3), 1, pull=True)
    steps = runner.each_step()
    queued = []
    for _ in range(3):
        next(steps)
        stats = runner.scheduler.stats()
        queued.append((stats.queued_prefill_tokens, stats.running_requests, stats.waiting_requests))
    assert queued == [(50, 1, 2), (34, 1, 2), (30, 1, 1)]


def test_stats_say_how_long_the_last_step_took(bench: Any, prompt: Any) -> None:
    runner = bench()
    assert runner.scheduler.stats().step_us == 0
    runner.add("one", prompt(4), 1)
    (only,) = runner.run()
    assert runner.scheduler.stats().step_us == only.each_us
