"""The sim engine, live: it keeps the Engine protocol's promises on a real event loop."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine import text
from argosy.engine.api import (
    BlocksChanged,
    EngineFailed,
    EngineOutput,
    EngineRefused,
    EngineRequest,
    EngineStats,
    Listener,
    SamplingSpec,
)
from argosy.engine.build import build_engine
from argosy.engine.profile_files import load_profile
from argosy.engine.settings import EngineSettings
from argosy.engine.sim.engine import SimEngine
from argosy.engine.sim.scheduler import Scheduler

PATIENCE_S = 20
BLOCK = 4
PROMPT = list(range(1, 21))


class RunningEngine:
    """A started engine and what its listener heard."""

    def __init__(self, **given: Any) -> None:
        options = {"sim_speed": 1000, "block_tokens": BLOCK, "max_model_tokens": 400, **given}
        blocks = options.pop("blocks", 2048)
        options["kv_bytes"] = blocks * BLOCK * load_profile(None).kv_bytes_per_token
        self.settings = EngineSettings(**options)
        self.engine = SimEngine(self.settings)
        self.resident: dict[int, set[int]] = {}
        self.steps: list[EngineStats] = []
        self.deaths: list[str] = []

    async def start(self) -> "RunningEngine":
        self.info = await self.engine.start(
            Listener(self.steps.append, self._blocks, self.deaths.append)
        )
        return self

    def _blocks(self, change: BlocksChanged) -> None:
        held = self.resident.get(change.dp_rank, set())
        self.resident[change.dp_rank] = held - set(change.removed) | set(change.stored)

    def submit(self, name: str, tokens: list[int] = PROMPT, **given: Any) -> Any:
        fields = ("produce", "kv_handle", "dp_rank", "cache_salt")
        how = {field: given.pop(field) for field in fields if field in given}
        sampling = SamplingSpec(**{"max_tokens": 8, "ignore_eos": True, **given})
        return self.engine.submit(EngineRequest(name, tokens, sampling, **how))

    async def outputs(
        self, name: str, tokens: list[int] = PROMPT, **given: Any
    ) -> list[EngineOutput]:
        async with asyncio.timeout(PATIENCE_S), aclosing(self.submit(name, tokens, **given)) as it:
            return [output async for output in it]

    async def answer(self, name: str, tokens: list[int] = PROMPT, **given: Any) -> list[int]:
        outputs = await self.outputs(name, tokens, **given)
        return [token for output in outputs for token in output.token_ids]

    @property
    def used(self) -> int:
        return self.engine.stats().kv_used_blocks


@pytest.fixture
async def launch() -> AsyncIterator[Callable[..., Any]]:
    """Starts engines with some settings; all are stopped when the test ends."""
    engines: list[RunningEngine] = []

    async def begin(**given: Any) -> RunningEngine:
        engines.append(RunningEngine(**given))
        return await engines[-1].start()

    yield begin
    for runner in engines:
        await runner.engine.stop()


async def eventually(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline, "what was awaited never came"
        await asyncio.sleep(0.001)


async def test_an_answer_streams_to_its_end_and_frees_its_blocks(launch: Any) -> None:
    runner = await launch()
    outputs = await runner.outputs("a")
    assert [len(output.token_ids) for output in outputs] == [1] * 8
    assert [output.finish for output in outputs] == [None] * 7 + ["length"]
    assert runner.used == 0


async def test_a_reader_that_falls_behind_gets_what_waits_in_one_piece(launch: Any) -> None:
    runner = await launch()
    outputs = runner.submit("a")
    first = await anext(outputs)
    await eventually(lambda: runner.engine.stats().running_requests == 0)
    (rest,) = [output async for output in outputs]
    assert first.token_ids + rest.token_ids == await runner.answer("b")
    assert (len(rest.token_ids), rest.finish) == (7, "length")


async def test_answers_are_words_of_the_sim_vocabulary(launch: Any) -> None:
    runner = await launch()
    answer = text.sim_tokenizer().encoder.decode(await runner.answer("a"))
    assert answer.startswith(" ")
    assert set(answer.split()) <= {word.strip() for word in text.SIM_WORDS}


async def test_many_requests_at_once_all_finish(launch: Any) -> None:
    runner = await launch(max_running=4, blocks=24)
    prompts = [PROMPT + [number] * (number % 9) for number in range(30)]
    answers = await asyncio.gather(
        *(runner.answer(str(number), tokens) for number, tokens in enumerate(prompts))
    )
    assert [len(answer) for answer in answers] == [8] * 30
    assert runner.used == 0


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_closing_the_stream_cancels_the_request_and_frees_its_blocks(
    launch: Any, after: int
) -> None:
    runner = await launch()
    async with aclosing(runner.submit("a", max_tokens=300)) as outputs:
        waiting = asyncio.ensure_future(anext(outputs))
        for _ in range(after):
            await waiting
            waiting = asyncio.ensure_future(anext(outputs))
        await eventually(lambda: runner.used)
        waiting.cancel()
        await asyncio.wait([waiting])
    stats = runner.engine.stats()
    assert (stats.running_requests, stats.waiting_requests, runner.used) == (0, 0, 0)


async def test_kv_is_held_for_a_puller_until_it_is_released(launch: Any) -> None:
    runner = await launch()
    (output,) = await runner.outputs("a", produce=True)
    assert (output.finish, bool(output.kv_handle)) == ("length", True)
    assert runner.used == len(PROMPT) // BLOCK

    await runner.engine.release("a", output.kv_handle)
    assert runner.used == 0
    await runner.engine.release("a", output.kv_handle)
    assert runner.used == 0


async def test_a_request_that_waits_for_held_kv_goes_on_when_it_is_released(launch: Any) -> None:
    runner = await launch(blocks=64)
    room = runner.info.kv_total_blocks * BLOCK
    held = list(range(room - BLOCK))
    (output,) = await runner.outputs("held", held, produce=True)
    waiting = asyncio.ensure_future(runner.answer("waits", [5] * (room // 2), max_tokens=1))
    await eventually(lambda: runner.engine.stats().waiting_requests)

    await runner.engine.release("held", output.kv_handle)
    assert len(await waiting) == 1


async def test_a_request_that_waits_for_another_goes_on_when_that_one_is_cancelled(
    launch: Any,
) -> None:
    runner = await launch(max_running=1, max_model_tokens=4000)
    async with aclosing(runner.submit("first", max_tokens=3000)) as outputs:
        await anext(outputs)
        waiting = asyncio.ensure_future(runner.answer("second"))
        await eventually(lambda: runner.engine.stats().waiting_requests)
    assert len(await waiting) == 8


async def test_the_listener_knows_which_blocks_are_resident(launch: Any) -> None:
    runner = await launch()
    answer = await runner.answer("a")
    # The last token's KV is never computed.
    computed = [*PROMPT, *answer][:-1]
    expected = chained_block_hashes(computed, BLOCK, root_hash(runner.settings.model))
    assert runner.resident == {0: set(expected)}


async def test_the_listener_hears_of_every_step_and_of_the_end(launch: Any) -> None:
    runner = await launch()
    await runner.answer("a")
    assert len(runner.steps) >= 8
    assert max(step.running_requests for step in runner.steps) == 1
    last = runner.steps[-1]
    assert last == EngineStats(step_us=last.step_us)
    assert last.step_us > 0


async def test_a_prompt_seen_before_comes_from_the_cache_but_not_another_tenants(
    launch: Any,
) -> None:
    runner = await launch()
    await runner.answer("first")
    cached = [
        (await runner.outputs(name, cache_salt=salt, max_tokens=1))[0].cached_tokens
        for name, salt in (("again", ""), ("other", "tenant"), ("other again", "tenant"))
    ]
    # All but the block of the last token, which is always computed.
    assert cached == [16, 0, 16]


async def test_the_next_turn_finds_the_kv_of_the_prompt_and_of_the_answer(launch: Any) -> None:
    runner = await launch()
    answer = await runner.answer("turn", max_tokens=12)
    (output,) = await runner.outputs("next", [*PROMPT, *answer, 5, 6], max_tokens=1)
    assert output.cached_tokens == (len(PROMPT) + 12 - 1) // BLOCK * BLOCK == 28


async def test_an_answer_does_not_depend_on_who_runs_beside_it(launch: Any) -> None:
    alone, crowded = await launch(), await launch(blocks=20, max_running=5)
    expected = await alone.answer("one", max_tokens=30)
    prompts = [PROMPT, *([number] * 20 for number in range(1, 8)), PROMPT[:10], PROMPT]
    answers = await asyncio.gather(
        *(crowded.answer(str(n), tokens, max_tokens=30) for n, tokens in enumerate(prompts))
    )
    assert answers[0] == answers[-1] == expected
    assert len({tuple(answer) for answer in answers}) == len(prompts) - 1


async def test_a_pull_moves_what_is_missing_and_says_so_once(launch: Any) -> None:
    runner = await launch()
    token_bytes = load_profile(None).kv_bytes_per_token
    first = await runner.outputs("a", kv_handle=b"sim")
    again = await runner.outputs("b", kv_handle=b"sim")
    moved = [[output.transferred_bytes for output in outputs] for outputs in (first, again)]
    assert moved == [[20 * token_bytes] + [0] * 7, [4 * token_bytes] + [0] * 7]
    assert [outputs[0].cached_tokens for outputs in (first, again)] == [0, 16]
    assert [o.token_ids for o in first] == [o.token_ids for o in again]


async def test_a_pull_is_told_of_even_when_its_request_was_preempted_since(launch: Any) -> None:
    """Room for two prompts of three blocks: the older one's answer takes the other's."""
    runner = await launch(blocks=6)
    answers = [runner.outputs("old", [1] * 12), runner.outputs("new", [2] * 12, kv_handle=b"sim")]
    _, outputs = await asyncio.gather(*answers)
    assert any(step.running_requests == step.waiting_requests == 1 for step in runner.steps)
    token_bytes = load_profile(None).kv_bytes_per_token
    assert [output.transferred_bytes for output in outputs] == [12 * token_bytes] + [0] * 7


async def test_a_pull_that_is_over_is_not_kept_in_mind(launch: Any) -> None:
    runner = await launch()
    for number in range(3):
        await runner.answer(str(number), [number] * 9, kv_handle=b"sim")
    assert runner.engine._scheduler.take_pulled() == []


async def test_ranks_report_apart_and_share_no_blocks(launch: Any) -> None:
    runner = await launch(dp_ranks=2)
    assert runner.info.dp_ranks == 2
    held = await runner.outputs("held", produce=True, dp_rank=1)
    stats = runner.engine.stats()
    assert [part.kv_used_blocks for part in stats.ranks] == [0, 5]
    assert stats.kv_used_blocks == 5
    cached = [(await runner.outputs(f"{n}", dp_rank=n))[0].cached_tokens for n in range(2)]
    assert cached == [0, 16]
    prompt_blocks = set(chained_block_hashes(PROMPT, BLOCK, root_hash(runner.settings.model)))
    assert runner.resident[0] == runner.resident[1] > prompt_blocks
    assert max(step.ranks[1].kv_used_blocks for step in runner.steps) >= 5
    assert held[0].token_ids == (await runner.outputs("again"))[0].token_ids


@pytest.mark.parametrize(("dp_ranks", "dp_rank"), [(1, 1), (2, 2), (2, 7)])
async def test_a_rank_that_is_not_there_is_refused(
    launch: Any, dp_ranks: int, dp_rank: int
) -> None:
    runner = await launch(dp_ranks=dp_ranks)
    with pytest.raises(EngineRefused, match=f"no data-parallel rank {dp_rank}.* has {dp_ranks}"):
        await runner.answer("a", dp_rank=dp_rank)
    assert len(await runner.answer("b", dp_rank=dp_ranks - 1)) == 8


async def test_an_answer_goes_on_the_same_on_another_engine(launch: Any) -> None:
    one, other = await launch(), await launch(max_running=1)
    whole = await one.answer("a", max_tokens=12)
    for split in (1, 5, 11):
        rest = await other.answer(f"b{split}", PROMPT + whole[:split], max_tokens=12 - split)
        assert rest == whole[split:]


async def test_sampled_answers_follow_their_seed_and_greedy_ones_do_not(launch: Any) -> None:
    runner = await launch()
    sampled = [await runner.answer(f"s{seed}", seed=seed) for seed in (1, 2, -1)]
    greedy = [await runner.answer(f"g{seed}", seed=seed, temperature=0) for seed in (1, 2)]
    assert len({tuple(answer) for answer in sampled}) == 3
    assert greedy[0] == greedy[1]
    assert await runner.answer("again", seed=1) == sampled[0]


async def test_a_form_is_refused_with_the_engine_that_could_follow_it(launch: Any) -> None:
    runner = await launch()
    for how in ({}, {"produce": True}):
        with pytest.raises(EngineRefused, match="use the vllm engine"):
            await runner.answer("a", grammar="root ::= 'a'", **how)
    assert runner.engine.stats() == EngineStats()


async def test_a_structured_answer_is_whole_ends_by_itself_and_is_the_same_anywhere(
    launch: Any,
) -> None:
    runner, other = await launch(), await launch(dp_ranks=2)
    outputs = await runner.outputs("a", regex="[a-z]{4}-[0-9]{9}", max_tokens=99)
    answer = [token for output in outputs for token in output.token_ids]
    assert re.fullmatch("[a-z]{4}-[0-9]{9}", text.sim_tokenizer().encoder.decode(answer))
    assert outputs[-1].finish == "stop"
    assert answer == await other.answer("b", regex="[a-z]{4}-[0-9]{9}", max_tokens=99)


async def test_max_tokens_may_cut_a_structured_answer(launch: Any) -> None:
    runner = await launch()
    outputs = await runner.outputs("a", choice=("a long choice",), max_tokens=6)
    assert (sum(len(o.token_ids) for o in outputs), outputs[-1].finish) == (6, "length")


async def test_a_biased_token_is_chosen_and_a_barred_one_is_not(launch: Any) -> None:
    runner = await launch()
    plain = await runner.answer("a", max_tokens=200)
    assert await runner.answer("b", logit_bias={5: 100.0}) == [5] * 8
    barred = dict.fromkeys(set(plain) - {plain[0]}, -100.0)
    assert set(barred).isdisjoint(await runner.answer("c", logit_bias=barred, max_tokens=200))


async def test_a_stop_token_ends_an_answer_once_it_has_its_fewest_tokens(launch: Any) -> None:
    runner = await launch()
    plain = await runner.answer("a", max_tokens=200)
    outputs = await runner.outputs("b", max_tokens=200, stop_token_ids=(plain[3],))
    assert [token for o in outputs for token in o.token_ids] == plain[: plain.index(plain[3]) + 1]
    assert outputs[-1].finish == "stop"
    later = await runner.answer("c", max_tokens=200, stop_token_ids=(plain[3],), min_tokens=50)
    assert len(later) > 50
    assert plain[3] not in later[:50]
    assert later[-1] == plain[3]


@pytest.mark.parametrize("length", [0, 400, 5000])
async def test_a_prompt_without_room_for_an_answer_is_refused(launch: Any, length: int) -> None:
    runner = await launch()
    with pytest.raises(EngineRefused, match=f"has {length} tokens; this engine takes 1 to 399"):
        await runner.answer("a", [1] * length)
    assert len(await runner.answer("b", [1] * 399)) == 1


async def test_the_context_is_no_longer_than_what_memory_holds(launch: Any) -> None:
    runner = await launch(blocks=16, max_model_tokens=0)
    assert runner.info.kv_total_blocks == 16
    assert runner.info.max_model_tokens == 16 * BLOCK
    longest = [1] * (runner.info.max_model_tokens - 1)
    assert len(await runner.answer("a", longest)) == 1


async def test_logprobs_come_one_for_each_token(launch: Any) -> None:
    runner = await launch()
    for top, ranked in ((0, 0), (2, 1)):
        async for output in runner.submit(f"a{top}", top_logprobs=top):
            (position,) = output.logprobs or []
            assert position.token_id == output.token_ids[0]
            assert len(position.top) == ranked


async def test_stopping_ends_running_and_waiting_requests_with_a_failure(launch: Any) -> None:
    runner = await launch(max_running=1)
    answers = [asyncio.ensure_future(runner.answer(name, max_tokens=300)) for name in "ab"]
    await eventually(lambda: runner.engine.stats().waiting_requests == 1 and runner.used)
    await runner.engine.stop()
    for answer in answers:
        with pytest.raises(EngineFailed, match="stopped"):
            await answer


async def test_a_request_after_the_stop_fails_instead_of_waiting(launch: Any) -> None:
    runner = await launch()
    early = runner.submit("asked for before, begun after")
    await runner.engine.stop()
    for outputs in (early, runner.submit("late")):
        with pytest.raises(EngineFailed, match="stopped"):
            await asyncio.wait_for(anext(outputs), PATIENCE_S)


async def test_loading_and_steps_take_as_long_as_the_profile_says(
    launch: Any, tmp_path: Path
) -> None:
    profile = tmp_path / "slow.yaml"
    profile.write_text(
        "load_ms: 400\nprefill_ms: [200, 0, 0]\ndecode_ms: [100, 0, 0]\ntransfer_ms: 300\n"
    )
    began_s = time.monotonic()
    runner = await launch(timing_profile=str(profile), sim_speed=10)
    assert time.monotonic() - began_s >= 0.04
    began_s = time.monotonic()
    await runner.answer("computed")
    assert time.monotonic() - began_s >= 0.02 + 7 * 0.01
    began_s = time.monotonic()
    await runner.answer("pulled", kv_handle=b"sim")
    assert time.monotonic() - began_s >= 0.03 + 8 * 0.01


async def test_what_an_engine_says_of_its_steps_is_what_it_runs_by(launch: Any) -> None:
    runner = await launch(sim_speed=50, step_tokens=8, max_running=6)
    expected = msgspec.structs.replace(load_profile(None).faster(50), tokens_per_step=8)
    assert (runner.info.timing, runner.info.tokens_per_step) == (expected, 8)
    await runner.answer("a", max_tokens=1)
    # The prompt's 20 tokens take steps of 8, 8 and 4.
    steps = [step.step_us for step in runner.steps if step.step_us]
    assert steps == [round(1e3 * expected.prefill_step_ms(tokens)) for tokens in (8, 8, 4)]


async def test_an_engine_promises_no_more_sequences_than_its_steps_have_tokens(launch: Any) -> None:
    runner = await launch(step_tokens=8, max_running=16)
    assert runner.info.max_running_requests == 8
    answers = [runner.answer(str(n), [n] * 5, kv_handle=b"sim") for n in range(20)]
    await asyncio.gather(*answers)
    assert max(step.running_requests for step in runner.steps) <= 8


def test_the_settings_choose_the_engine() -> None:
    assert isinstance(build_engine(EngineSettings(), "decode"), SimEngine)


async def test_a_step_that_raises_ends_every_request_and_is_reported_as_the_engines_death(
    launch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect in a step")

    runner = await launch()
    first, second = runner.submit("a", max_tokens=300), runner.submit("b", max_tokens=300)
    await anext(first)
    await anext(second)
    monkeypatch.setattr(Scheduler, "plan", broken)
    for outputs in (first, second):
        with pytest.raises(EngineFailed, match="a defect in a step"):
            async with asyncio.timeout(PATIENCE_S):
                _ = [output async for output in outputs]
    assert runner.deaths == ["the sim engine failed: RuntimeError('a defect in a step')"]
    with pytest.raises(EngineFailed, match="a defect in a step"):
        await runner.answer("c")


async def test_an_engine_that_is_stopped_has_not_died(launch: Any) -> None:
    runner = await launch()
    await runner.engine.stop()
    assert runner.deaths == []
