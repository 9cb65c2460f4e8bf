"""Prefill dies: every prompt it had is served."""

import asyncio
import signal
from typing import Any

import pytest

from argosy.client import Answer

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {"max_tokens": 4, "temperature": 0, "ignore_eos": True}


async def ask(fleet: Any, text: str, *, direct: bool = False) -> Answer:
    async with fleet.client(direct=direct) as client:
        return await client.answer("sim", text=text, **OPTIONS)


def prompts(what: str) -> list[str]:
    """More than one step of prefill, each new to it."""
    return [f"{what} {number} " + "x" * 2500 for number in range(4)]


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_killing_prefill_with_prompts_waiting_serves_them_all(
    whole_fleet: Any, eventually: Any, direct: bool
) -> None:
    async def has_work() -> bool:
        return (await whole_fleet.instance("prefill-0")).load.queued_prefill_tokens > 0

    texts = prompts(f"waiting {direct}")
    asking = [asyncio.create_task(ask(whole_fleet, text, direct=direct)) for text in texts]
    await eventually(has_work)
    await whole_fleet.kill("prefill-0")
    answers = await asyncio.gather(*asking)

    expected = await asyncio.gather(*(ask(whole_fleet, text) for text in texts))
    assert [answer.token_ids for answer in answers] == [e.token_ids for e in expected]


async def test_a_draining_prefill_loses_no_prompt(whole_fleet: Any, eventually: Any) -> None:
    async def has_work() -> bool:
        return (await whole_fleet.instance("prefill-0")).load.queued_prefill_tokens > 0

    asking = [
        asyncio.create_task(ask(whole_fleet, text, direct=number % 2 == 0))
        for number, text in enumerate(prompts("draining"))
    ]
    await eventually(has_work)
    await whole_fleet.kill("prefill-0", signal.SIGTERM)
    answers = await asyncio.gather(*asking)

    assert [len(answer.token_ids) for answer in answers] == [4] * len(answers)
    assert {answer.timing.attempts for answer in answers} == {1}
    assert any(answer.timing.disaggregated for answer in answers)


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_requests_that_come_right_after_prefill_died_are_served(
    whole_fleet: Any, direct: bool
) -> None:
    await whole_fleet.kill("prefill-0")
    texts = prompts(f"right after {direct}")
    answers = await asyncio.gather(*(ask(whole_fleet, text, direct=direct) for text in texts))

    assert [len(answer.token_ids) for answer in answers] == [4] * len(texts)


async def test_without_prefill_a_long_prompt_is_served_by_decode_alone(
    whole_fleet: Any, eventually: Any
) -> None:
    async def is_dead() -> bool:
        return not (await whole_fleet.instance("prefill-0")).live

    await whole_fleet.kill("prefill-0")
    await eventually(is_dead)
    answer = await ask(whole_fleet, "alone " + "x" * 1000)

    assert not answer.timing.disaggregated
    assert len(answer.token_ids) == 4
    assert await whole_fleet.healthz() == 200
