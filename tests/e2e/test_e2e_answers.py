"""The same question gets the same answer, whichever way it takes through the fleet."""

import asyncio
import uuid
from typing import Any

import pytest

from argosy.engine.text import sim_tokenizer

SHORT = "set sail"
NOT_ASCII = "à la dérive · 漂流 · 🚢 " * 6


async def ask(fleet: Any, text: str, *, direct: bool = False, **sampling: Any) -> Any:
    async with fleet.client(direct=direct) as client:
        options = {"max_tokens": 32, "temperature": 0, **sampling}
        return await client.answer("sim", text=text, **options)


def stranger() -> str:
    """A tenant that nothing is cached for yet."""
    return uuid.uuid4().hex


async def test_relayed_and_direct_answers_are_equal(either_fleet: Any, long_text: str) -> None:
    relayed = await ask(either_fleet, long_text, tenant=stranger())
    direct = await ask(either_fleet, long_text, tenant=stranger(), direct=True)

    assert relayed.token_ids == direct.token_ids
    assert {relayed.timing.disaggregated, direct.timing.disaggregated} == {either_fleet.prefills}
    assert relayed.text == direct.text
    assert relayed.finish_reason == direct.finish_reason


async def test_relayed_and_direct_answers_to_what_is_not_ascii_are_equal(fleet: Any) -> None:
    relayed, direct = await ask(fleet, NOT_ASCII), await ask(fleet, NOT_ASCII, direct=True)

    assert (relayed.text, relayed.token_ids) == (direct.text, direct.token_ids)


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_a_long_prompt_is_disaggregated_and_a_short_one_is_not(
    fleet: Any, long_text: str, direct: bool
) -> None:
    long = await ask(fleet, long_text, direct=direct)
    short = await ask(fleet, SHORT, direct=direct)

    assert long.timing.disaggregated
    assert long.timing.transferred_bytes > 0
    assert not short.timing.disaggregated
    assert short.timing.transferred_bytes == 0


async def test_a_fleet_without_prefill_gives_the_tokens_a_disaggregated_one_gives(
    fleet: Any, lone_fleet: Any, long_text: str
) -> None:
    apart, alone = await ask(fleet, long_text), await ask(lone_fleet, long_text)

    assert apart.timing.disaggregated
    assert not alone.timing.disaggregated
    assert alone.token_ids == apart.token_ids
    assert alone.text == apart.text


async def test_repeated_greedy_calls_give_one_text_also_from_the_cache(
    fleet: Any, long_text: str
) -> None:
    answers = [await ask(fleet, long_text) for _ in range(3)]
    answers += await asyncio.gather(*(ask(fleet, long_text, direct=True) for _ in range(5)))

    assert len({answer.text for answer in answers}) == 1
    assert answers[0].usage.cached_tokens == 0
    assert answers[1].usage.cached_tokens > 0


async def test_the_text_is_that_of_the_tokens(either_fleet: Any, long_text: str) -> None:
    answer = await ask(either_fleet, long_text, ignore_eos=True)

    assert len(answer.token_ids) == answer.usage.completion_tokens == 32
    assert answer.text == sim_tokenizer().encoder.decode(answer.token_ids)


async def test_token_ids_and_the_text_they_spell_are_the_same_prompt(
    fleet: Any, long_text: str
) -> None:
    async with fleet.client() as client:
        ids = sim_tokenizer().encode(long_text)
        by_ids = await client.answer("sim", token_ids=ids, max_tokens=16, temperature=0)

    assert by_ids.token_ids == (await ask(fleet, long_text, max_tokens=16)).token_ids
    assert by_ids.usage.prompt_tokens == len(ids)


async def test_a_stop_string_ends_the_answer_before_it(either_fleet: Any, long_text: str) -> None:
    options = {"ignore_eos": True}
    whole = await ask(either_fleet, long_text, tenant=stranger(), **options)
    stop = whole.text.split()[5]
    stopped = await ask(either_fleet, long_text, tenant=stranger(), stop=[stop], **options)

    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]


async def test_a_seed_gives_its_own_answer_every_time(fleet: Any) -> None:
    first = await ask(fleet, SHORT, temperature=1, seed=1)
    again = await ask(fleet, SHORT, temperature=1, seed=1)
    other = await ask(fleet, SHORT, temperature=1, seed=2)

    assert first.text == again.text != other.text


async def test_tenants_do_not_share_a_prefix_cache(fleet: Any) -> None:
    async with fleet.client() as client:
        options = {"text": "in confidence " * 20, "max_tokens": 1}
        await client.answer("sim", tenant="one", **options)
        mine = await client.answer("sim", tenant="one", **options)
        other = await client.answer("sim", tenant="two", **options)

    assert mine.usage.cached_tokens > 0
    assert other.usage.cached_tokens == 0


async def test_answers_at_once_are_the_answers_one_by_one(fleet: Any) -> None:
    prompts = [f"{number} " * (20 * number + 1) for number in range(8)]
    one_by_one = [(await ask(fleet, prompt, max_tokens=16)).text for prompt in prompts]
    at_once = await asyncio.gather(
        *(
            ask(fleet, prompt, direct=number % 2 == 0, max_tokens=16)
            for number, prompt in enumerate(prompts)
        )
    )

    assert [answer.text for answer in at_once] == one_by_one
