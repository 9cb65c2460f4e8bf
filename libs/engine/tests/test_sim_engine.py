"""The sim engine, live: it keeps the Engine protocol's promises on a real event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

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
from argosy.engine.settings import InstanceSettings
from argosy.engine.sim.engine import SimEngine
from argosy.mesh import text
from argosy.mesh.blocks import chained_block_hashes, root_hash

PATIENCE_S = 20
BLOCK = 4
PROMPT = list(range(1, 21))


class Ship:
    """A started engine and what its listener heard."""

    def __init__(self, **given: Any) -> None:
        options = {"sim_speed": 1000, "block_tokens": BLOCK, "max_model_tokens": 400, **given}
        self.settings = InstanceSettings(**options)
        self.engine = SimEngine(self.settings)
        self.resident: set[int] = set()
        self.steps: list[EngineStats] = []

    async def start(self) -> "Ship":
        self.info = await self.engine.start(
            Listener(self.steps.append, self._blocks, lambda why: None)
        )
        return self

    def _blocks(self, change: BlocksChanged) -> None:
        self.resident = self.resident - set(change.removed) | set(change.stored)

    def submit(self, name: str, tokens: list[int] = PROMPT, **given: Any) -> Any:
        produce, handle = given.pop("produce", False), given.pop("kv_handle", None)
        sampling = SamplingSpec(**{"max_tokens": 8, "ignore_eos": True, **given})
        request = EngineRequest(name, tokens, sampling, produce=produce, kv_handle=handle)
        return self.engine.submit(request)

    async def answer(self, name: str, tokens: list[int] = PROMPT, **given: Any) -> list[int]:
        async with asyncio.timeout(PATIENCE_S), aclosing(self.submit(name, tokens, **given)) as it:
            return [token async for output in it for token in output.token_ids]

    @property
    def used(self) -> int:
        return self.engine.stats().kv_used_blocks


@pytest.fixture
async def launch() -> AsyncIterator[Callable[..., Any]]:
    """Starts engines with some settings; all are stopped when the test ends."""
    ships: list[Ship] = []

    async def begin(**given: Any) -> Ship:
        ships.append(Ship(**given))
        return await ships[-1].start()

    yield begin
    for ship in ships:
        await ship.engine.stop()


async def eventually(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline, "what was awaited never came"
        await asyncio.sleep(0.001)


async def test_an_answer_streams_to_its_end_and_frees_its_blocks(launch: Any) -> None:
    ship = await launch()
    outputs: list[EngineOutput] = [output async for output in ship.submit("a")]
    assert len(outputs) == 8
    assert [output.finish for output in outputs] == [None] * 7 + ["length"]
    assert ship.used == 0


async def test_a_reader_that_falls_behind_gets_what_waits_in_one_piece(launch: Any) -> None:
    ship = await launch()
    outputs = ship.submit("a")
    first = await anext(outputs)
    await eventually(lambda: ship.engine.stats().running_requests == 0)
    (rest,) = [output async for output in outputs]
    assert first.token_ids + rest.token_ids == await ship.answer("b")
    assert (len(rest.token_ids), rest.finish) == (7, "length")


async def test_answers_are_words_of_the_sim_vocabulary(launch: Any) -> None:
    ship = await launch()
    answer = text.sim_tokenizer().encoder.decode(await ship.answer("a"))
    assert answer.startswith(" ")
    assert set(answer.split()) <= {word.strip() for word in text.SIM_WORDS}


async def test_many_requests_at_once_all_finish(launch: Any) -> None:
    ship = await launch(max_running=4, kv_bytes=3 << 20)
    prompts = [PROMPT + [number] * (number % 9) for number in range(30)]
    answers = await asyncio.gather(
        *(ship.answer(str(number), tokens) for number, tokens in enumerate(prompts))
    )
    assert [len(answer) for answer in answers] == [8] * 30
    assert ship.used == 0


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_closing_the_stream_cancels_the_request_and_frees_its_blocks(
    launch: Any, after: int
) -> None:
    ship = await launch()
    async with aclosing(ship.submit("a", max_tokens=300)) as outputs:
        waiting = asyncio.ensure_future(anext(outputs))
        for _ in range(after):
            await waiting
            waiting = asyncio.ensure_future(anext(outputs))
        await eventually(lambda: ship.used)
        waiting.cancel()
        await asyncio.wait([waiting])
    stats = ship.engine.stats()
    assert (stats.running_requests, stats.waiting_requests, ship.used) == (0, 0, 0)


async def test_kv_is_held_for_a_puller_until_it_is_released(launch: Any) -> None:
    ship = await launch()
    (output,) = [output async for output in ship.submit("a", produce=True)]
    assert output.kv_handle
    assert ship.used == len(PROMPT) // BLOCK + 1

    await ship.engine.release("a", output.kv_handle)
    assert ship.used == 0
    await ship.engine.release("a", output.kv_handle)
    assert ship.used == 0


async def test_a_request_that_waits_for_held_kv_goes_on_when_it_is_released(launch: Any) -> None:
    ship = await launch(kv_bytes=1 << 20)
    room = ship.info.kv_total_blocks * BLOCK
    held = list(range(room - BLOCK))
    (output,) = [output async for output in ship.submit("held", held, produce=True)]
    waiting = asyncio.ensure_future(ship.answer("waits", [5] * (room // 2), max_tokens=1))
    await eventually(lambda: ship.engine.stats().waiting_requests)

    await ship.engine.release("held", output.kv_handle)
    assert len(await waiting) == 1


async def test_a_request_that_waits_for_another_goes_on_when_that_one_is_cancelled(
    launch: Any,
) -> None:
    ship = await launch(max_running=1, max_model_tokens=4000)
    async with aclosing(ship.submit("first", max_tokens=3000)) as outputs:
        await anext(outputs)
        waiting = asyncio.ensure_future(ship.answer("second"))
        await eventually(lambda: ship.engine.stats().waiting_requests)
    assert len(await waiting) == 8


async def test_the_listener_knows_which_blocks_are_resident(launch: Any) -> None:
    ship = await launch()
    await ship.answer("a")
    expected = chained_block_hashes(PROMPT, BLOCK, root_hash(ship.settings.model))
    assert ship.resident == set(expected)


async def test_the_listener_hears_of_every_pass_and_of_the_end(launch: Any) -> None:
    ship = await launch()
    await ship.answer("a")
    assert len(ship.steps) >= 8
    assert max(step.running_requests for step in ship.steps) == 1
    assert ship.steps[-1] == EngineStats()


async def test_a_prompt_seen_before_comes_from_the_cache_but_not_another_tenants(
    launch: Any,
) -> None:
    ship = await launch()
    await ship.answer("first")
    sampling = SamplingSpec(1)
    again = EngineRequest("again", PROMPT, sampling)
    other = EngineRequest("other", PROMPT, sampling, cache_salt="tenant")
    cached = []
    for request in (again, other):
        outputs = [output async for output in ship.engine.submit(request)]
        cached.append(outputs[-1].cached_tokens)
    assert cached == [len(PROMPT) - 1, 0]


async def test_an_answer_goes_on_the_same_on_another_engine(launch: Any) -> None:
    one, other = await launch(), await launch(max_running=1)
    whole = await one.answer("a", max_tokens=12)
    for split in (1, 5, 11):
        rest = await other.answer(f"b{split}", PROMPT + whole[:split], max_tokens=12 - split)
        assert rest == whole[split:]


async def test_sampled_answers_follow_their_seed_and_greedy_ones_do_not(launch: Any) -> None:
    ship = await launch()
    sampled = [await ship.answer(f"s{seed}", seed=seed) for seed in (1, 2, -1)]
    greedy = [await ship.answer(f"g{seed}", seed=seed, temperature=0) for seed in (1, 2)]
    assert len({tuple(answer) for answer in sampled}) == 3
    assert greedy[0] == greedy[1]
    assert await ship.answer("again", seed=1) == sampled[0]


async def test_a_schema_is_refused_with_the_engine_that_could_follow_it(launch: Any) -> None:
    ship = await launch()
    with pytest.raises(EngineRefused, match="use the vllm engine"):
        await ship.answer("a", json_schema="{}")
    assert ship.engine.stats() == EngineStats()


@pytest.mark.parametrize("length", [0, 400, 5000])
async def test_a_prompt_without_room_for_an_answer_is_refused(launch: Any, length: int) -> None:
    ship = await launch()
    with pytest.raises(EngineRefused, match=f"has {length} tokens; this engine takes 1 to 399"):
        await ship.answer("a", [1] * length)
    assert len(await ship.answer("b", [1] * 399)) == 1


async def test_the_context_is_no_longer_than_what_memory_holds(launch: Any) -> None:
    ship = await launch(kv_bytes=1 << 20, max_model_tokens=0)
    assert ship.info.max_model_tokens == ship.info.kv_total_blocks * BLOCK
    longest = [1] * (ship.info.max_model_tokens - 1)
    assert len(await ship.answer("a", longest)) == 1


async def test_logprobs_come_one_for_each_token(launch: Any) -> None:
    ship = await launch()
    for top, ranked in ((0, 0), (2, 1)):
        async for output in ship.submit(f"a{top}", top_logprobs=top):
            (position,) = output.logprobs or []
            assert position.token_id == output.token_ids[0]
            assert len(position.top) == ranked


async def test_stopping_ends_running_and_waiting_requests_with_a_failure(launch: Any) -> None:
    ship = await launch(max_running=1)
    answers = [asyncio.ensure_future(ship.answer(name, max_tokens=300)) for name in "ab"]
    await eventually(lambda: ship.engine.stats().waiting_requests == 1 and ship.used)
    await ship.engine.stop()
    for answer in answers:
        with pytest.raises(EngineFailed, match="stopped"):
            await answer


async def test_time_passes_as_the_profile_says(tmp_path: Path) -> None:
    profile = tmp_path / "slow.yaml"
    profile.write_text("load_ms: 3000000\n")
    ship = Ship(sim_profile=profile)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ship.start(), 0.05)


def test_a_profile_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "wrong.yaml"
    profile.write_text("lod_ms: 3\n")
    with pytest.raises(Exception, match="lod_ms"):
        Ship(sim_profile=profile)


def test_the_settings_choose_the_engine() -> None:
    assert isinstance(build_engine(InstanceSettings(), "decode"), SimEngine)
