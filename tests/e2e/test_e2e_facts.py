"""What instances do is told on the bus."""

import asyncio
import time
import uuid
from typing import Any

import pytest

from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine.text import sim_tokenizer
from argosy.wire.decode.v1 import events_pb2 as decode_events
from argosy.wire.decode.v1.decode_pb2_grpc import DecodeStub
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_events
from argosy.wire.prefill.v1.prefill_pb2_grpc import PrefillStub
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc

BLOCK_TOKENS = 32


async def ask(fleet: Any, text: str, **options: Any) -> Any:
    async with fleet.client() as client:
        return await client.answer("sim", text=text, max_tokens=8, temperature=0, **options)


def hashes_of(text: str, tenant: str = "") -> list[int]:
    ids = sim_tokenizer().encode(text)
    return chained_block_hashes(ids, BLOCK_TOKENS, root_hash("sim", tenant))


@pytest.mark.parametrize("tenant", ["", "guild"])
@pytest.mark.parametrize(
    "kind", [prefill_events.KvChanged, decode_events.KvChanged], ids=["prefill", "decode"]
)
async def test_kv_facts_name_the_prompt_s_blocks_by_their_chained_hashes(
    fleet: Any, eventually: Any, kind: Any, tenant: str, long_text: str
) -> None:
    async with fleet.hears(kind) as heard:

        def stored() -> set[int]:
            return {block for fact in heard for block in fact.change.stored}

        async def named() -> bool:
            text = f"{uuid.uuid4().hex} {long_text}"
            answer = await ask(fleet, text, tenant=tenant)
            if not answer.timing.disaggregated and kind is prefill_events.KvChanged:
                return False  # Decode computed it: prefill has nothing to tell.
            wanted = set(hashes_of(text, tenant))
            await eventually(lambda: wanted <= stored())
            return True

        await eventually(named, 60)


async def test_kv_facts_of_an_instance_count_up_without_a_gap(
    fleet: Any, eventually: Any, long_text: str
) -> None:
    async with fleet.hears(prefill_events.KvChanged) as heard:
        for number in range(4):
            await ask(fleet, f"{number} {long_text}")
        await eventually(lambda: len(heard) >= 4)

        first = heard[0].change.change_sequence
        counts = [fact.change.change_sequence for fact in heard]
        assert counts == list(range(first, first + len(heard)))


@pytest.mark.parametrize("instance", ["prefill-0", "decode-0"])
async def test_a_snapshot_names_every_block_of_a_prompt_that_was_served(
    fleet: Any, long_text: str, instance: str
) -> None:
    await ask(fleet, long_text)
    stub_of = PrefillStub if instance == "prefill-0" else DecodeStub
    async with fleet.channel((await fleet.instance(instance)).address) as channel:
        call = stub_of(channel).KvSnapshot(inference_pb2.KvSnapshotRequest())
        parts = [part async for part in call]

    assert set(hashes_of(long_text)) <= {block for part in parts for block in part.blocks}
    assert {part.instance_id for part in parts} == {instance}


@pytest.mark.parametrize(
    ("kind", "instance"),
    [(prefill_events.LoadReported, "prefill-0"), (decode_events.LoadReported, "decode-0")],
    ids=["prefill", "decode"],
)
async def test_load_facts_show_the_work_and_then_its_end(
    fleet: Any, eventually: Any, kind: Any, instance: str, long_text: str
) -> None:
    async with fleet.hears(kind) as heard:
        await ask(fleet, long_text)
        await eventually(lambda: any(fact.load.kv_used_blocks for fact in heard))
        await eventually(lambda: is_idle(heard[-1].load))

        assert {fact.load.instance_id for fact in heard} == {instance}


def is_idle(load: Any) -> bool:
    return not (load.running_requests or load.kv_used_blocks or load.kv_held_blocks)


async def test_prefill_s_load_says_what_it_holds_for_a_ticket_nobody_uses(
    fleet: Any, eventually: Any, long_text: str
) -> None:
    request = router_pb2.GenerateRequest(model="sim", text=long_text, sampling={"max_tokens": 1})
    async with fleet.hears(prefill_events.LoadReported) as heard:
        async with fleet.channel(fleet.running.grpc) as channel:
            await router_pb2_grpc.RouterStub(channel).Route(
                router_pb2.RouteRequest(request=request)
            )
        await eventually(lambda: any(fact.load.kv_held_blocks for fact in heard))
        await eventually(lambda: heard[-1].load.kv_held_blocks == 0)

        assert max(fact.load.kv_held_blocks for fact in heard) == len(hashes_of(long_text)) + 1


async def test_an_idle_instance_is_heard_of_all_the_same(fleet: Any, eventually: Any) -> None:
    async with fleet.hears(prefill_events.LoadReported, decode_events.LoadReported) as heard:
        await eventually(lambda: {f.load.instance_id for f in heard} == {"prefill-0", "decode-0"})


async def test_prefill_predicts_when_it_will_be_idle(
    slow_fleet: Any, eventually: Any, long_text: str
) -> None:
    await ask(slow_fleet, f"how long this takes is what it learns from {long_text}")
    # More at once than one step of the engine takes: two.
    texts = [f"{number} {long_text}" for number in range(4)]
    async with slow_fleet.hears(prefill_events.IdlePredicted) as heard:
        asked_us = time.time_ns() // 1000
        await asyncio.gather(*(ask(slow_fleet, text) for text in texts))
        await eventually(lambda: any(fact.queued_prefill_tokens for fact in heard))

        assert {fact.instance_id for fact in heard} == {"prefill-0"}
        assert max(fact.idle_at_us for fact in heard) > asked_us
