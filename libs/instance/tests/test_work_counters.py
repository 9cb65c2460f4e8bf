"""What an instance tells of its steps: whole sums, and nothing of warm-ups."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from argosy.engine.api import RankStep, StepEnded
from argosy.engine.vllm.step_times import StepReport, StepTimes
from argosy.instance.work_counters import STEPS_MAX, WorkCounters
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import instance_pb2, instance_pb2_grpc

PATIENCE_S = 20


async def eventually(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline, "what was awaited never came"
        await asyncio.sleep(0.002)


def ended(number: int, us: int = 10) -> StepEnded:
    return StepEnded(us, [RankStep(number, 2, 0.5), RankStep(1, 1, 0.25)])


def reported(counters: WorkCounters) -> inference_pb2.Load:
    load = inference_pb2.Load()
    counters.add_to(load)
    return load


def test_sums_are_of_all_ranks_and_a_step_is_of_its_slowest() -> None:
    counters = WorkCounters()
    counters.step_ended(ended(7))
    load = reported(counters)
    assert (load.work.steps, load.work.step_us_sum) == (1, 10)
    assert (load.work.prefill_tokens, load.work.decode_tokens) == (8, 3)
    (one,) = load.steps
    assert (one.us, one.prefill_tokens, one.decode_requests, one.kv_share) == (10, 7, 2, 0.5)


def test_a_step_is_told_once_and_sums_every_time() -> None:
    counters = WorkCounters()
    counters.step_ended(ended(1))
    first, then = reported(counters), reported(counters)
    assert len(first.steps) == 1
    assert not then.steps
    assert first.work == then.work


def test_of_too_many_passes_the_last_are_told_and_all_are_summed() -> None:
    counters = WorkCounters()
    for number in range(STEPS_MAX + 8):
        counters.step_ended(ended(number))
    load = reported(counters)
    assert [one.prefill_tokens for one in load.steps] == list(range(8, STEPS_MAX + 8))
    assert load.work.steps == STEPS_MAX + 8


def test_a_step_of_unknown_length_counts_for_its_tokens_alone() -> None:
    counters = WorkCounters()
    counters.step_ended(ended(7, us=0))
    load = reported(counters)
    assert (load.work.steps, len(load.steps), load.work.prefill_tokens) == (0, 0, 8)


async def test_loads_on_the_bus_add_up_to_what_was_computed(start_instance: Any) -> None:
    member = await start_instance(dp_ranks=2, sim_speed=50)
    await asyncio.gather(
        *(member.answer(str(n), [n] * 9, max_tokens=5 + n, dp_rank=n % 2) for n in range(4))
    )
    # The last of the prompt's steps makes the first token; each further one takes a sequence-step.
    await eventually(lambda: member.loads and member.loads[-1].work.decode_tokens == 4 + 5 + 6 + 7)
    work = member.loads[-1].work
    assert work.prefill_tokens == 4 * 9
    steps = [one for load in member.loads for one in load.steps]
    assert work.steps == len(steps)
    assert work.step_us_sum == sum(one.us for one in steps)
    assert all(0 < one.kv_share <= 1 and one.us for one in steps)


async def test_what_rides_on_answers_has_neither_sums_nor_passes(start_instance: Any) -> None:
    member = await start_instance()
    await member.answer("a", [1] * 9)
    load = member.instance.load()
    assert not load.HasField("work")
    assert not load.steps


async def test_neither_sleep_nor_the_warm_up_after_it_is_told_as_work(start_instance: Any) -> None:
    member = await start_instance()
    await member.answer("a", [1] * 9, max_tokens=20)
    # The first of the 20 tokens comes with the prompt's step. Earlier reports tell fewer.
    await eventually(lambda: member.loads and member.loads[-1].work.decode_tokens == 19)
    life = member.mesh.channels.stub(instance_pb2_grpc.LifecycleStub, member.mesh.address)
    done, before = member.loads[-1].work, len(member.loads)
    await life.Sleep(instance_pb2.SleepRequest(decision_sequence=1, level="dram", cause="test"))
    await eventually(lambda: "InstanceSlept" in member.names())
    await life.Wake(instance_pb2.WakeRequest(decision_sequence=2, cause="test"))
    await eventually(lambda: "InstanceWoke" in member.names())
    since = member.loads[before:]
    assert any(load.not_serving for load in since)
    assert all(load.work == done and not load.steps for load in since)
    await member.answer("b", [2] * 9)
    await eventually(lambda: member.loads[-1].work.prefill_tokens == 2 * 9)


def step(
    *, goes_on: bool = True, prompt: int = 0, decoding: int = 0, finished_s: float = 0.0
) -> StepReport:
    """As vLLM tells of one: nothing computed if there is neither prompt nor answer."""
    details = SimpleNamespace(
        num_ctx_tokens=prompt, num_generation_requests=decoding, is_dummy=False
    )
    return StepReport(1, 0, 0.5, [], goes_on, details if prompt or decoding else None, finished_s)


def test_a_vllm_step_whose_requests_were_there_before_lasts_since_the_step_before() -> None:
    steps = StepTimes()
    steps.stepped(step(prompt=5), 1.0)
    assert steps.stepped(step(prompt=3, decoding=1), 1.25) == StepEnded(
        250_000, [RankStep(3, 1, 0.5)]
    )


@pytest.mark.parametrize(("finished_s", "us"), [(0.0, 0), (0.125, 125_000)])
def test_a_vllm_step_that_begins_in_an_idle_engine_is_as_long_as_a_request_that_ends_in_it(
    finished_s: float, us: int
) -> None:
    steps = StepTimes()
    steps.stepped(step(prompt=5, goes_on=False), 1.0)
    found = steps.stepped(step(prompt=5, finished_s=finished_s), 9.0)
    assert found is not None
    assert found.us == us


def test_time_in_which_vllm_had_no_request_is_in_no_step() -> None:
    steps = StepTimes()
    steps.stepped(step(prompt=5), 1.0)
    steps.rest()
    found = steps.stepped(step(prompt=5), 9.0)
    assert found is not None
    assert found.us == 0


def test_a_vllm_step_without_tokens_is_no_step() -> None:
    steps = StepTimes()
    steps.stepped(step(prompt=5), 1.0)
    assert steps.stepped(step(), 2.0) is None
    found = steps.stepped(step(decoding=1), 2.5)
    assert found is not None
    assert found.us == 500_000
