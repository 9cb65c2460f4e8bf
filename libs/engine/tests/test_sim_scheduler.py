"""The sim scheduler in virtual time: everyone is served, nothing is kept, order is fair."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.engine.sim.scheduler import Pass

BLOCK_TOKENS = 4
PASS_TOKENS = 16

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
            str(number), prompt(length, family), answer, hold=kind == "hold", pull=kind == "pull",
            rank=number % bench.dp_ranks,
        )  # fmt: skip


def spent(planned: Pass) -> int:
    """Tokens of the first rank's pass."""
    (share,) = planned.shares
    assert share is not None
    return share.prefill_tokens + len(share.decoding)


def cost_us(bench: Any, prefill_tokens: int, decoding: int, used_blocks: int) -> int:
    ms = bench.profile.prefill_pass_ms(prefill_tokens)
    if decoding:
        ms += bench.profile.decode_pass_ms(used_blocks / bench.blocks, decoding)
    return round(1e3 * ms)


@settings(max_examples=60, deadline=None)
@given(
    requests=REQUESTS, blocks=st.integers(23, 40), running=st.integers(1, 30), ranks=st.integers(1, 2)
)  # fmt: skip
def test_every_request_gets_all_its_tokens_and_leaves_nothing_behind(
    bench: Any, prompt: Any, requests: list[tuple[int, int, int, str]], blocks: int, running: int,
    ranks: int,
) -> None:  # fmt: skip
    ship = bench(blocks, running, ranks, releases_held=True)
    load(ship, prompt, requests)
    for planned in ship.steps():
        for share in planned.shares:
            if share is not None:
                assert len(share.chunks) + len(share.decoding) <= running
                assert share.prefill_tokens + len(share.decoding) <= PASS_TOKENS

    assert sorted(ship.ended, key=int) == [str(number) for number in range(len(requests))]
    for name, tokens in ship.tokens.items():
        assert len(tokens) == ship.sequences[name].answer_tokens
        assert [token.first for token in tokens] == [True] + [False] * (len(tokens) - 1)
        assert [token.last for token in tokens] == [False] * (len(tokens) - 1) + [True]
        assert sorted({token.at_us for token in tokens}) == [token.at_us for token in tokens]
    stats = ship.scheduler.stats()
    assert (stats.running_requests, stats.waiting_requests) == (0, 0)
    assert (stats.kv_used_blocks, stats.queued_prefill_tokens) == (0, 0)
    assert ship.heard() == ship.known()


@settings(max_examples=60, deadline=None)
@given(
    requests=REQUESTS,
    removed=st.lists(st.tuples(st.integers(0, 900_000), st.integers(0, 11)), max_size=12),
)
def test_after_all_are_removed_no_block_is_used(
    bench: Any, prompt: Any, requests: list[tuple[int, int, int, str]],
    removed: list[tuple[int, int]],
) -> None:  # fmt: skip
    ship = bench(blocks=24)
    load(ship, prompt, requests)
    ship.run(
        (at_us, lambda name=str(number): ship.scheduler.remove(name))
        for at_us, number in sorted(removed)
    )
    for number in range(len(requests)):
        ship.scheduler.remove(str(number))
    ship.check()
    stats = ship.scheduler.stats()
    assert (stats.running_requests, stats.waiting_requests, stats.kv_used_blocks) == (0, 0, 0)
    assert ship.scheduler.plan(ship.now_us) is None


@pytest.mark.parametrize("prompt_tokens", [1, 15, 16, 17, 32, 100])
def test_a_prompt_takes_as_many_passes_as_the_budget_cuts_it_into(
    bench: Any, prompt: Any, prompt_tokens: int
) -> None:
    ship = bench()
    ship.add("one", prompt(prompt_tokens), 1)
    passes = ship.run()
    assert len(passes) == -(-prompt_tokens // PASS_TOKENS)
    assert sum(spent(planned) for planned in passes) == prompt_tokens
    expected_us = 1e3 * ship.profile.prompt_ms(prompt_tokens, PASS_TOKENS)
    assert ship.now_us == pytest.approx(expected_us, abs=len(passes))


def test_prompts_share_a_pass_up_to_its_budget(bench: Any, prompt: Any) -> None:
    ship = bench()
    for number in range(3):
        ship.add(str(number), prompt(30, number), 1)
    assert [spent(planned) for planned in ship.run()] == [16, 16, 16, 16, 16, 10]


def test_answers_go_on_in_every_pass_of_a_long_prompt(bench: Any, prompt: Any) -> None:
    ship = bench()
    ship.add("short", prompt(4, 1), 6)
    steps = ship.steps()
    next(steps)
    long = ship.add("long", prompt(100, 2), 1)
    mixed = []
    for planned in steps:
        (share,) = planned.shares
        if share.chunks and share.decoding:
            mixed.append((share.prefill_tokens, [s.key for s in share.decoding]))
    assert mixed == [(15, ["short"])] * 5
    assert ship.ended == ["short", "long"]
    assert long.produced == 1


def test_a_mixed_pass_costs_the_sum_of_its_prefill_and_its_decode(bench: Any, prompt: Any) -> None:
    ship = bench()
    ship.add("short", prompt(4, 1), 4)
    steps = ship.steps()
    prefill = next(steps)
    ship.add("long", prompt(40, 2), 1)
    assert prefill.each_us == cost_us(ship, 4, 0, 0)
    mixed = next(steps)
    assert mixed.each_us == cost_us(ship, 15, 1, 2 + 10)
    assert mixed.each_us == pytest.approx(cost_us(ship, 15, 0, 0) + cost_us(ship, 0, 1, 12), abs=1)


def test_more_sequences_than_a_pass_has_tokens_never_run_at_once(bench: Any, prompt: Any) -> None:
    """Pulls ask for no prompt tokens; yet each takes one of every pass."""
    ship = bench(blocks=400, running=100)
    for number in range(20):
        ship.add(f"pull {number}", prompt(4, number), 60, pull=True)
    ship.add("prompt", prompt(4, 99), 1)
    assert max(spent(planned) for planned in ship.run()) == PASS_TOKENS
    assert "prompt" in ship.ended


def test_blocks_are_told_as_they_are_computed_chunk_by_chunk(bench: Any, prompt: Any) -> None:
    ship = bench()
    one = ship.add("one", prompt(42), 1)
    told: list[list[int]] = []
    for _ in ship.steps():
        told.append([block for _, change in ship.changes for block in change.stored])
    assert told == [[], one.hashes[:4], one.hashes[:8]]
    assert [change.stored for _, change in ship.changes] == [
        one.hashes[:4], one.hashes[4:8], one.hashes[8:10],
    ]  # fmt: skip
    assert ship.changes[0][0] == ship.now_us - 2 * (ship.now_us // 3) or ship.changes[0][0] > 0


def test_a_prompt_being_computed_is_no_hit_for_the_next_until_it_is(
    bench: Any, prompt: Any
) -> None:
    ship = bench()
    for name in ("first", "at once"):
        ship.add(name, prompt(8), 1)
    ship.run()
    later = ship.add("later", prompt(8), 1)
    ship.run()
    assert [ship.sequences[name].cached for name in ("first", "at once")] == [0, 0]
    assert later.cached == 4


def test_a_prompt_seen_before_is_cached_but_for_the_block_of_its_last_token(
    bench: Any, prompt: Any
) -> None:
    ship = bench()
    for name in ("first", "again"):
        ship.add(name, prompt(12), 1)
        ship.run()
    assert [ship.sequences[name].cached for name in ("first", "again")] == [0, 8]


def test_only_whole_blocks_of_a_common_beginning_are_cached(bench: Any) -> None:
    ship = bench()
    ship.add("first", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    ship.run()
    second = ship.add("second", [1, 2, 3, 4, 5, 6, 99, 98, 97])
    ship.run()
    assert second.cached == BLOCK_TOKENS


def test_a_cached_prompt_is_computed_only_from_where_it_differs(bench: Any, prompt: Any) -> None:
    ship = bench()
    ship.add("first", prompt(32), 1)
    ship.run()
    ship.add("again", [*prompt(32), 5, 5], 1)
    assert [spent(planned) for planned in ship.run()] == [2]


def test_held_kv_stays_in_use_until_it_is_removed(bench: Any, prompt: Any) -> None:
    ship = bench()
    held = ship.add("held", prompt(10), 1, hold=True)
    ship.run()
    assert ship.ended == ["held"]
    stats = ship.scheduler.stats()
    assert (stats.kv_used_blocks, stats.running_requests, held.produced) == (3, 0, 1)

    ship.scheduler.remove("held")
    assert ship.scheduler.stats().kv_used_blocks == 0
    ship.scheduler.remove("held")
    assert ship.scheduler.stats().kv_used_blocks == 0


def test_who_has_no_room_beside_held_kv_waits_until_it_is_removed(bench: Any, prompt: Any) -> None:
    ship = bench(blocks=8)
    ship.add("held", prompt(20, 1), 1, hold=True)
    ship.add("waits", prompt(16, 2), 2)
    ship.run()
    assert ship.ended == ["held"]
    ship.scheduler.remove("held")
    ship.run()
    assert ship.ended == ["held", "waits"]


def test_who_comes_first_is_admitted_first_even_when_a_smaller_one_would_fit(
    bench: Any, prompt: Any
) -> None:
    ship = bench(blocks=10)
    for name, length, family in (("big", 30, 1), ("bigger", 34, 2), ("small", 2, 3)):
        ship.add(name, prompt(length, family), 2)
    (share,) = next(ship.steps()).shares
    assert [sequence.key for sequence, _ in share.chunks] == ["big"]
    ship.run()
    assert ship.ended == ["big", "bigger", "small"]


def test_a_request_removed_during_a_pass_yields_nothing_from_it(bench: Any, prompt: Any) -> None:
    ship = bench()
    for name in ("stays", "goes"):
        ship.add(name, prompt(4), 2)
    steps = ship.steps()
    next(steps)
    next(steps)
    ship.scheduler.remove("goes")
    assert list(steps) == []
    assert (len(ship.tokens["goes"]), len(ship.tokens["stays"])) == (1, 2)


def test_queued_tokens_are_those_still_to_be_computed_here(bench: Any, prompt: Any) -> None:
    ship = bench(running=1)
    ship.add("runs", prompt(20, 1), 1)
    ship.add("waits", prompt(30, 2), 1)
    ship.add("pulls", prompt(40, 3), 1, pull=True)
    steps = ship.steps()
    queued = []
    for _ in range(3):
        next(steps)
        stats = ship.scheduler.stats()
        queued.append((stats.queued_prefill_tokens, stats.running_requests, stats.waiting_requests))
    assert queued == [(50, 1, 2), (34, 1, 2), (30, 1, 1)]


def test_stats_say_how_long_the_last_pass_took(bench: Any, prompt: Any) -> None:
    ship = bench()
    assert ship.scheduler.stats().pass_us == 0
    ship.add("one", prompt(4), 1)
    (only,) = ship.run()
    assert ship.scheduler.stats().pass_us == only.each_us
