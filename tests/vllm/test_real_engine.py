"""What only the real model can show. One fleet for all; the tests that kill come last."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import openai
import pytest

from argosy.client import Answer, Client
from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.mesh.bus import Bus
from argosy.mesh.ports import free_port
from argosy.wire.kvstore.v1 import events_pb2 as kvstore_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_pb2
from argosy.wire.router.v1 import router_pb2

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(2400)]

SCHEMA = {
    "type": "object",
    "properties": {"ship": {"enum": ["brig", "sloop"]}, "masts": {"enum": [1, 2]}},
    "required": ["ship", "masts"],
    "additionalProperties": False,
}
GREEDY = {"temperature": 0, "ignore_eos": True}


async def eventually(holds: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def router(real, policy: str) -> AsyncIterator[Client]:
    """One more router of the same fleet, with this policy."""
    running, port = real.running, free_port()
    settings = {
        "instance_id": f"router-{policy}",
        "fleet": running.fleet,
        "nats_url": running.nats,
        "listen": f"127.0.0.1:{port}",
        "http_listen": "127.0.0.1:0",
        "model": running.model,
        "model_source": running.model_source,
        "policy": policy,
        # On a busy machine a heartbeat can be late; who is believed dead is not asked.
        "stale_s": 20,
        "fleet_secret": (real.planned.home.path / "secret").read_text(),
    }
    environment = {f"ARGOSY_ROUTER_{k.upper()}": str(v) for k, v in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "argosy.router"], env={**os.environ, **environment}
    )
    try:
        async with Client(f"127.0.0.1:{port}") as client:

            async def ready() -> bool:
                """It serves once it has heard of one instance; it has to know of both roles."""
                with contextlib.suppress(ArgosyError):
                    status = await client.status()
                    live = {view.role for view in status.instances if view.live}
                    return status.ready and live == {"prefill", "decode"}
                return False

            await eventually(ready, 60, "the router has heard of prefill and decode")
            yield client
    finally:
        process.terminate()
        process.wait(30)


async def all_blocks_free(client: Client) -> bool:
    status = await client.status()
    return all(
        view.load.kv_used_blocks == 0 and view.load.running_requests == 0
        for view in status.instances
    )


@pytest.mark.parametrize(
    ("policy", "always_apart"), [("least_loaded", True), ("least_cost", False)]
)
async def test_greedy_tokens_equal_those_of_one_plain_engine(real, policy, always_apart) -> None:
    async with router(real, policy) as client:
        for prompt, plain in zip(real.prompts, real.plain, strict=True):
            answer = await client.answer(
                real.running.model, token_ids=prompt, max_tokens=len(plain), tenant=policy, **GREEDY
            )
            assert answer.token_ids == plain, f"prompt of {len(prompt)} tokens"
            assert answer.timing.disaggregated or not always_apart
            assert bool(answer.timing.transferred_bytes) is answer.timing.disaggregated


async def test_kv_facts_name_the_prompts_blocks_by_our_own_hashes(real) -> None:
    stored: set[int] = set()
    bus = Bus(real.running.nats, real.running.fleet, "test-kv")
    bus.listen(prefill_pb2.KvChanged, lambda fact, envelope: stored.update(fact.change.stored))
    bus.start()
    await asyncio.wait_for(bus.connected.wait(), 10)
    prompt = list(range(2000, 2000 + 200))
    expected = set(chained_block_hashes(prompt, 32, root_hash(real.running.model, "kv-facts")))
    async with Client(real.running.grpc) as client:
        await client.answer(
            real.running.model, token_ids=prompt, max_tokens=2, tenant="kv-facts", **GREEDY
        )

    async def seen() -> bool:
        return expected <= stored

    await eventually(seen, 10, "every full block of the prompt was announced")
    await bus.close()


async def test_a_schema_is_followed_through_prefill_and_decode(real) -> None:
    async with openai.AsyncOpenAI(base_url=f"{real.running.http}/v1", api_key="none") as client:
        reply = await client.chat.completions.create(
            model=real.running.model,
            messages=[{"role": "user", "content": "Describe a small ship as JSON. " * 12}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "ship", "schema": SCHEMA},
            },
            max_tokens=48,
            temperature=0,
        )
    ship = json.loads(reply.choices[0].message.content or "")
    assert ship["ship"] in ("brig", "sloop")
    assert ship["masts"] in (1, 2)


async def test_a_required_tool_is_called_with_arguments_that_fit(real) -> None:
    tool = {"type": "function", "function": {"name": "describe_ship", "parameters": SCHEMA}}
    async with openai.AsyncOpenAI(base_url=f"{real.running.http}/v1", api_key="none") as client:
        reply = await client.chat.completions.create(
            model=real.running.model,
            messages=[{"role": "user", "content": "Describe a small ship."}],
            tools=[tool],
            tool_choice="required",
            max_tokens=64,
            temperature=0,
        )
    assert reply.choices[0].finish_reason == "tool_calls"
    call = reply.choices[0].message.tool_calls[0]
    assert call.function.name == "describe_ship"
    assert json.loads(call.function.arguments)["ship"] in ("brig", "sloop")


@pytest.mark.parametrize(
    ("form", "answers"),
    [
        ({"guided_choice": ["brig", "sloop"]}, "brig|sloop"),
        ({"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
        ({"guided_grammar": 'root ::= "aye" | "nay"'}, "aye|nay"),
    ],
    ids=["choice", "regex", "grammar"],
)
async def test_other_forms_of_an_answer_are_followed(real, form, answers) -> None:
    async with openai.AsyncOpenAI(base_url=f"{real.running.http}/v1", api_key="none") as client:
        reply = await client.completions.create(
            model=real.running.model, prompt="A ship: ", max_tokens=16, extra_body=form
        )
    assert re.fullmatch(answers, reply.choices[0].text)


async def test_a_biased_token_is_chosen_until_it_stops_the_answer(real) -> None:
    async with Client(real.running.grpc) as client:
        asked = {"text": "A ship", "temperature": 0, "max_tokens": 6, "logit_bias": {100: 100.0}}
        biased = await client.answer(real.running.model, **asked)
        stopped = await client.answer(real.running.model, **asked, stop_token_ids=[100])
    assert list(biased.token_ids) == [100] * 6
    assert list(stopped.token_ids) == [100]


async def test_a_schema_the_engine_cannot_follow_is_the_callers_fault(real) -> None:
    async with Client(real.running.grpc) as client:
        with pytest.raises(ArgosyError) as refused:
            await client.answer(
                real.running.model, text="x", max_tokens=4, json_schema='{"type": "nonsense"}'
            )
    assert refused.value.reason is Reason.BAD_REQUEST


async def test_logprobs_name_the_chosen_token_and_its_rivals(real) -> None:
    async with openai.AsyncOpenAI(base_url=f"{real.running.http}/v1", api_key="none") as client:
        reply = await client.chat.completions.create(
            model=real.running.model,
            messages=[{"role": "user", "content": "Say a word."}],
            logprobs=True,
            top_logprobs=3,
            max_tokens=4,
            temperature=0,
        )
    positions = reply.choices[0].logprobs.content
    assert len(positions) == reply.usage.completion_tokens
    for position in positions:
        assert position.logprob <= 0
        assert len(position.top_logprobs) == 3
        assert position.top_logprobs[0].logprob == pytest.approx(position.logprob)


async def test_the_same_seed_gives_the_same_answer_and_another_one_another(real) -> None:
    async with Client(real.running.grpc) as client:

        async def sampled(seed: int) -> list[int]:
            answer = await client.answer(
                real.running.model,
                text="The sea is",
                max_tokens=12,
                temperature=1.0,
                seed=seed,
                ignore_eos=True,
            )
            return answer.token_ids

        assert await sampled(1) == await sampled(1)
        assert await sampled(1) != await sampled(2)


async def test_a_token_id_outside_the_vocabulary_costs_only_its_own_request(real) -> None:
    async with Client(real.running.grpc) as client:
        with pytest.raises(ArgosyError) as refused:
            await client.answer(real.running.model, token_ids=[5, 10_000_000], max_tokens=4)
        assert refused.value.reason is Reason.BAD_REQUEST
        answer = await client.answer(real.running.model, token_ids=[5, 6], max_tokens=2)
    assert answer.token_ids


async def test_a_ticket_that_is_never_used_leaves_no_block_held(real) -> None:
    async with Client(real.running.grpc) as client:
        request = router_pb2.GenerateRequest(model=real.running.model)
        request.tokens.ids.extend(range(3000, 3300))
        request.sampling.max_tokens = 4
        await client._router.Route(router_pb2.RouteRequest(request=request))

        async def prefilled() -> bool:
            return any(v.load.kv_used_blocks for v in (await client.status()).instances)

        await eventually(prefilled, 10, "prefill holds the prompt's KV")
        await eventually(lambda: all_blocks_free(client), 5, "every block is free")


@pytest.mark.parametrize("after_tokens", [0, 3], ids=["prefilling", "decoding"])
async def test_a_caller_that_hangs_up_leaves_no_block_held(real, after_tokens) -> None:
    async with Client(real.running.grpc) as client:
        answer = client.generate(
            real.running.model,
            token_ids=list(range(4000, 5200)),
            max_tokens=400,
            tenant=f"hang-up-{after_tokens}",
            **GREEDY,
        )
        if after_tokens:
            async with aclosing(answer) as chunks:
                seen = 0
                async for chunk in chunks:
                    seen += len(chunk.token_ids)
                    if seen >= after_tokens:
                        break
        else:
            first = asyncio.ensure_future(anext(answer))

            async def prefilling() -> bool:
                return any(v.load.running_requests for v in (await client.status()).instances)

            await eventually(prefilling, 10, "prefill is at work")
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await eventually(lambda: all_blocks_free(client), 5, "every block is free")


async def pid_of(real, name: str) -> int:
    remote = ControlClient(real.running)
    try:
        return next(p.pid for p in await remote.processes() if p.name == name)
    finally:
        await remote.close()


async def test_decode_killed_mid_stream_the_answer_is_the_one_it_would_have_been(real) -> None:
    prompt, plain = real.prompts[LONG], real.plain[LONG]
    async with Client(real.running.grpc) as client:
        tokens, attempts = [], 0
        async for chunk in client.generate(
            real.running.model, token_ids=prompt, max_tokens=len(plain), **GREEDY
        ):
            tokens += chunk.token_ids
            attempts = max(attempts, chunk.timing.attempts)
            if len(tokens) == 4:
                os.kill(await pid_of(real, "decode-0"), signal.SIGKILL)
    assert tokens == plain
    assert attempts > 1


async def test_a_structured_answer_survives_the_death_of_its_decode(real) -> None:
    async with Client(real.running.grpc) as client:
        asked = {"messages": [{"role": "user", "content": "Describe a small ship. " * 20}]}
        sampling = {"max_tokens": 64, "temperature": 0, "json_schema": json.dumps(SCHEMA)}
        undisturbed = await client.answer(real.running.model, **asked, **sampling)
        tokens, attempts, killed = [], 0, False
        async for chunk in client.generate(real.running.model, **asked, **sampling):
            tokens += chunk.token_ids
            attempts = max(attempts, chunk.timing.attempts)
            if len(tokens) >= 4 and not killed:
                killed = True
                os.kill(await pid_of(real, "decode-0"), signal.SIGKILL)
    assert tokens == undisturbed.token_ids
    assert attempts > 1


async def test_prefill_killed_with_prompts_waiting_all_are_served(real) -> None:
    chosen = [number for number, prompt in enumerate(real.prompts) if 100 <= len(prompt) <= 500]
    async with Client(real.running.grpc) as client:
        answers = [
            asyncio.ensure_future(
                client.answer(
                    real.running.model,
                    token_ids=real.prompts[number],
                    tenant="prefill-killed",
                    max_tokens=4,
                    **GREEDY,
                )
            )
            for number in chosen
        ]

        async def prefilling() -> bool:
            views = (await client.status()).instances
            return any(v.role == "prefill" and v.load.queued_prefill_tokens for v in views)

        await eventually(prefilling, 10, "prefill is at work")
        os.kill(await pid_of(real, "prefill-0"), signal.SIGKILL)
        served = await asyncio.gather(*answers)
    assert all(len(answer.token_ids) == 4 for answer in served)


async def test_what_killed_instances_had_computed_comes_from_the_store(real) -> None:
    chosen = [number for number, prompt in enumerate(real.prompts) if 200 <= len(prompt) <= 1000]
    stored: set[int] = set()
    bus = Bus(real.running.nats, real.running.fleet, "test-store")
    bus.listen(kvstore_pb2.KvStored, lambda fact, envelope: stored.update(fact.blocks))
    bus.start()
    await asyncio.wait_for(bus.connected.wait(), 10)
    root = root_hash(real.running.model, "stored")
    expected = {block for n in chosen for block in chained_block_hashes(real.prompts[n], 32, root)}
    async with Client(real.running.grpc) as client:

        async def ask(number: int) -> Answer:
            return await client.answer(
                real.running.model,
                token_ids=real.prompts[number],
                tenant="stored",
                max_tokens=len(real.plain[number]),
                **GREEDY,
            )

        async def whole() -> bool:
            roles = [v.role for v in (await client.status()).instances if v.live]
            return sorted(roles) == ["decode", "prefill"]

        async def all_stored() -> bool:
            return expected <= stored

        await eventually(whole, 300, "both instances are there")
        for number in chosen:
            await ask(number)
        await eventually(all_stored, 10, "every block is stored")
        before = {name: await pid_of(real, name) for name in ("decode-0", "prefill-0")}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        async def anew() -> bool:
            pids = {name: await pid_of(real, name) for name in before}
            return all(pids[name] not in (0, pid) for name, pid in before.items()) and await whole()

        await eventually(anew, 300, "both instances are there anew")
        for number in chosen:
            answer = await ask(number)
            assert answer.token_ids == real.plain[number]
            assert answer.usage.cached_tokens == (len(real.prompts[number]) - 1) // 32 * 32
    await bus.close()


LONG = 15
"""Index of the prompt of 500 tokens."""
