"""Whether something is an engine: what every engine behind the protocol promises.

An engine passes when it is added to ENGINES (by name, with its settings) and these tests hold.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml

from argosy.engine.api import (
    BlocksChanged,
    Engine,
    EngineFailed,
    EngineInfo,
    EngineOutput,
    EngineRefused,
    EngineRequest,
    EngineStats,
    Listener,
    SamplingSpec,
)
from argosy.engine.build import build_engine
from argosy.engine.settings import EngineSettings

PATIENCE_S = 120
START_S = 600
PROMPT = list(range(11, 81))
DEMO = Path("deploy/local/demo.yaml")


def vllm_settings() -> dict[str, Any]:
    source = yaml.safe_load(DEMO.read_text())["spec"]["model"]["source"]
    return {
        "model_source": str((DEMO.parent / source).resolve()),
        "dtype": "float32",
        "kv_bytes": 64 << 20,
        "max_model_tokens": 512,
        "max_running": 4,
    }


def sim_settings() -> dict[str, Any]:
    return {"sim_speed": 100, "block_tokens": 4, "max_model_tokens": 400}


ENGINES: dict[str, Callable[[], dict[str, Any]]] = {
    "sim": sim_settings,
    "vllm": vllm_settings,
    "echo": lambda: {"block_tokens": 4},
}


class EngineRunner:
    """A started engine, and what its listener heard."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.info = EngineInfo(0, 0, 0, 0)
        self.held: set[int] = set()
        self.steps: list[EngineStats] = []
        self.deaths: list[str] = []

    async def start(self) -> None:
        listener = Listener(self.steps.append, self._blocks_changed, self.deaths.append)
        self.info = await asyncio.wait_for(self.engine.start(listener), START_S)

    def submit(self, name: str, tokens: list[int] | None = None, **given: Any) -> Any:
        fields = ("produce", "cache_salt")
        how = {field: given.pop(field) for field in fields if field in given}
        sampling = SamplingSpec(**{"max_tokens": 8, "temperature": 0, "ignore_eos": True, **given})
        return self.engine.submit(EngineRequest(name, tokens or PROMPT, sampling, **how))

    async def outputs(self, name: str, *args: Any, **given: Any) -> list[EngineOutput]:
        stream = self.submit(name, *args, **given)
        async with asyncio.timeout(PATIENCE_S), aclosing(stream):
            return [output async for output in stream]

    async def idle(self) -> None:
        """Until the engine has nothing of a request any more."""
        async with asyncio.timeout(PATIENCE_S):
            while self.engine.stats().running_requests or self.engine.stats().waiting_requests:
                await asyncio.sleep(0.005)

    def _blocks_changed(self, change: BlocksChanged) -> None:
        if change.cleared:
            self.held.clear()
        assert self.held >= set(change.removed)
        self.held = self.held - set(change.removed) | set(change.stored)


@pytest.fixture(params=["sim", "echo", pytest.param("vllm", marks=pytest.mark.vllm)])
async def runner(
    request: pytest.FixtureRequest, install_from_outside: Callable[[], None]
) -> AsyncIterator[EngineRunner]:
    install_from_outside()
    settings = EngineSettings(engine=request.param, **ENGINES[request.param]())
    started = EngineRunner(build_engine(settings, "decode"))
    await started.start()
    yield started
    await asyncio.wait_for(started.engine.stop(), PATIENCE_S)
    assert started.deaths == []


async def test_an_engine_keeps_its_promises(runner: EngineRunner) -> None:
    """All in one, since a real engine takes long to start."""
    await it_says_what_it_turned_out_to_be(runner)
    await an_answer_has_the_tokens_asked_for_and_ends_once(runner)
    await greedy_answers_to_one_prompt_are_equal(runner)
    await answers_stream_beside_each_other(runner)
    await closing_the_stream_ends_the_request(runner)
    await a_prompt_that_does_not_fit_is_refused_and_nothing_of_it_stays(runner)
    await it_sleeps_and_wakes(runner)
    await running_requests_end_with_engine_failed_when_it_stops(runner)


async def it_says_what_it_turned_out_to_be(runner: EngineRunner) -> None:
    info = runner.info
    assert min(info.block_tokens, info.kv_total_blocks, info.max_running_requests) > 0
    assert info.max_model_tokens > len(PROMPT)
    assert info.dp_ranks >= 1
    assert runner.engine.stats().running_requests == 0


async def an_answer_has_the_tokens_asked_for_and_ends_once(runner: EngineRunner) -> None:
    outputs = await runner.outputs("tokens", max_tokens=8)
    assert sum(len(output.token_ids) for output in outputs) == 8
    assert [output.finish for output in outputs if output.finish] == ["length"]
    assert outputs[-1].finish == "length"
    assert all(output.transferred_bytes == 0 for output in outputs)
    await runner.idle()


async def greedy_answers_to_one_prompt_are_equal(runner: EngineRunner) -> None:
    first, second = [
        [token for output in await runner.outputs(name) for token in output.token_ids]
        for name in ("greedy-1", "greedy-2")
    ]
    assert first == second


async def answers_stream_beside_each_other(runner: EngineRunner) -> None:
    answers = await asyncio.gather(
        *(runner.outputs(f"beside-{n}", [*PROMPT, 100 + n], max_tokens=4 + n) for n in range(3))
    )
    counts = [sum(len(output.token_ids) for output in outputs) for outputs in answers]
    assert counts == [4, 5, 6]


async def closing_the_stream_ends_the_request(runner: EngineRunner) -> None:
    stream = runner.submit("closed", max_tokens=200)
    await anext(stream)
    await stream.aclose()
    await runner.idle()


async def a_prompt_that_does_not_fit_is_refused_and_nothing_of_it_stays(
    runner: EngineRunner,
) -> None:
    too_long = [5] * (runner.info.max_model_tokens + 1)
    with pytest.raises(EngineRefused):
        await runner.outputs("too-long", too_long)
    await runner.idle()


async def it_sleeps_and_wakes(runner: EngineRunner) -> None:
    before = await runner.outputs("before", max_tokens=4)
    await runner.idle()
    engine = runner.engine
    await engine.withdraw()
    await engine.sleep("dram")
    assert runner.held == set()
    await engine.wake()
    await engine.register()
    after = await runner.outputs("after", max_tokens=4)
    assert [o.token_ids for o in after] == [o.token_ids for o in before]


async def running_requests_end_with_engine_failed_when_it_stops(runner: EngineRunner) -> None:
    stream = runner.submit("stopped", max_tokens=300)
    await anext(stream)
    await runner.engine.stop()
    with pytest.raises(EngineFailed):
        async with asyncio.timeout(PATIENCE_S):
            _ = [output async for output in stream]
