"""What a step of the sim engine holds and costs: chunks of prompts beside running answers."""

from typing import Any

import pytest

from argosy.engine.sim.scheduler import EngineStep

STEP_TOKENS = 16


def spent(planned: EngineStep) -> int:
    """Tokens of the first rank's step."""
    (share,) = planned.shares
    assert share is not None
    return share.prefill_tokens + len(share.decoding)


def cost_us(bench: Any, prefill_tokens: int, decoding: int, used_blocks: int) -> int:
    ms = bench.profile.prefill_step_ms(prefill_tokens)
    if decoding:
        ms += bench.profile.decode_step_ms(used_blocks / bench.blocks, decoding)
    return round(1e3 * ms)


@pytest.mark.parametrize("prompt_tokens", [1, 15, 16, 17, 32, 100])
def test_a_prompt_takes_as_many_steps_as_the_budget_cuts_it_into(
    bench: Any, prompt: Any, prompt_tokens: int
) -> None:
    runner = bench()
    runner.add("one", prompt(prompt_tokens), 1)
    steps = runner.run()
    assert len(steps) == -(-prompt_tokens // STEP_TOKENS)
    assert sum(spent(planned) for planned in steps) == prompt_tokens
    expected_us = 1e3 * runner.profile.prompt_ms(prompt_tokens, STEP_TOKENS)
    assert runner.now_us == pytest.approx(expected_us, abs=len(steps))


def test_prompts_share_a_step_up_to_its_budget(bench: Any, prompt: Any) -> None:
    runner = bench()
    for number in range(3):
        runner.add(str(number), prompt(30, number), 1)
    assert [spent(planned) for planned in runner.run()] == [16, 16, 16, 16, 16, 10]


def test_a_prompt_takes_blocks_no_sooner_than_a_step_has_tokens_for_it(
    bench: Any, prompt: Any
) -> None:
    runner = bench()
    for number in range(2):
        runner.add(str(number), prompt(2 * STEP_TOKENS, number), 1)
    used = []
    for planned in runner.each_step():
        assert all(tokens > 0 for _, tokens in planned.shares[0].chunks)
        used.append(runner.scheduler.stats().kv_used_blocks)
    assert used == [8, 8, 8, 8]


def test_answers_go_on_in_every_step_of_a_long_prompt(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("short", prompt(4, 1), 6)
    steps = runner.each_step()
    next(steps)
    long = runner.add("long", prompt(100, 2), 1)
    mixed = []
    for planned in steps:
        (share,) = planned.shares
        if share.chunks and share.decoding:
            mixed.append((share.prefill_tokens, [s.key for s in share.decoding]))
    assert mixed == [(15, ["short"])] * 5
    assert runner.ended == ["short", "long"]
    assert long.produced == 1


def test_a_mixed_step_costs_the_sum_of_its_prefill_and_its_decode(bench: Any, prompt: Any) -> None:
    runner = bench()
    runner.add("short", prompt(4, 1), 4)
    steps = runner.each_step()
    prefill = next(steps)
    runner.add("long", prompt(40, 2), 1)
    assert prefill.each_us == cost_us(runner, 4, 0, 0)
    mixed = next(steps)
    assert mixed.each_us == cost_us(runner, 15, 1, 2 + 10)
    assert mixed.each_us == pytest.approx(
        cost_us(runner, 15, 0, 0) + cost_us(runner, 0, 1, 12), abs=1
    )


def test_more_sequences_than_a_step_has_tokens_never_run_at_once(bench: Any, prompt: Any) -> None:
    """Pulls ask for no prompt tokens; yet each takes one of every step."""
    runner = bench(blocks=400, running=100)
    for number in range(20):
        runner.add(f"pull {number}", prompt(4, number), 60, pull=True)
    runner.add("prompt", prompt(4, 99), 1)
    assert max(spent(planned) for planned in runner.run()) == STEP_TOKENS
    assert "prompt" in runner.ended
