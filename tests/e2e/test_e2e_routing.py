"""Prompts go where their KV is; what is gone is not believed to be there."""

import asyncio
from typing import Any

from argosy.engine.text import sim_tokenizer

BLOCK_TOKENS = 32


def full_blocks(tokens: int) -> int:
    """Tokens of the KV blocks that so many fill."""
    return tokens // BLOCK_TOKENS * BLOCK_TOKENS


async def spread(watch: Any, text: str, prompts: int) -> dict[str, str]:
    """Ask so many prompts that share nothing: where each is cached from then on."""
    found = {}
    for number in range(prompts):
        prompt = f"{number} {text}"
        _, sent = await watch.ask(text=prompt)
        found[prompt] = sent.decode
    return found


async def test_the_next_turn_of_a_conversation_goes_on_from_the_kv_of_the_last(
    watch: Any, long_text: str
) -> None:
    said = sim_tokenizer().encode(long_text)
    answer, first = await watch.ask(token_ids=said, max_tokens=100)
    for turn in range(3):
        # Its last token's KV was never needed.
        held = full_blocks(len(said) + len(answer.token_ids) - 1)
        said = [*said, *answer.token_ids, *sim_tokenizer().encode(f"and then, {turn}?")]
        await watch.ask(text=f"{turn} in between {long_text}")
        answer, sent = await watch.ask(token_ids=said, max_tokens=100)

        assert sent.decode == first.decode
        assert answer.usage.cached_tokens == held
        assert sent.uncached_tokens == len(said) - held


async def test_prompts_that_share_nothing_spread_over_the_caches(
    watch: Any, long_text: str
) -> None:
    assert set((await spread(watch, long_text, 6)).values()) == {"decode-0", "decode-1", "decode-2"}


async def test_a_restarted_instance_leaves_no_phantom_blocks_and_others_keep_theirs(
    three_decodes: Any, watch: Any, long_text: str, eventually: Any
) -> None:
    before = await spread(watch, long_text, 6)
    killed = next(iter(before.values()))
    pid = await three_decodes.kill(killed)

    async def is_back() -> bool:
        process = (await three_decodes.processes())[killed]
        return process.pid != pid and await three_decodes.is_whole()

    await eventually(is_back, 30)
    for prompt, holder in before.items():
        answer, sent = await watch.ask(text=prompt)
        if holder == killed:
            assert sent.uncached_tokens == sent.prompt_tokens
            assert answer.usage.cached_tokens == 0
        else:
            assert sent.decode == holder
            assert answer.usage.cached_tokens == full_blocks(sent.prompt_tokens)


async def test_a_router_that_comes_later_learns_what_is_cached_where(
    three_decodes: Any, watch: Any, long_text: str, eventually: Any
) -> None:
    before = await spread(watch, long_text, 6)
    await three_decodes.kill("router")
    await eventually(three_decodes.is_whole, 30)
    await eventually(watch.is_told)

    for prompt, holder in before.items():
        answer, sent = await watch.ask(text=prompt)

        assert sent.decode == holder
        assert answer.usage.cached_tokens == full_blocks(sent.prompt_tokens)
        assert sent.uncached_tokens == sent.prompt_tokens - answer.usage.cached_tokens


async def test_many_requests_for_one_prompt_do_not_all_wait_for_its_holder(
    watch: Any, long_text: str
) -> None:
    await watch.ask(text=long_text)
    asked = await asyncio.gather(
        *(watch.ask(text=long_text, max_tokens=60, at_once=True) for _ in range(96))
    )

    assert {len(answer.token_ids) for answer, _ in asked} == {60}
    assert len({sent.decode for _, sent in asked}) > 1


async def test_what_a_tenant_cached_draws_no_other_tenant_s_prompt(
    watch: Any, long_text: str
) -> None:
    await watch.ask(text=long_text, tenant="owner")
    _, own = await watch.ask(text=long_text, tenant="owner")
    _, other = await watch.ask(text=long_text, tenant="other")

    assert own.uncached_tokens < BLOCK_TOKENS
    assert other.uncached_tokens == other.prompt_tokens
