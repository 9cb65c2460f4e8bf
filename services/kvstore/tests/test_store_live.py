"""A real store with real instances: what was saved is what comes back, and nothing else."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import Any

import grpc
import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.rpc import call
from argosy.mesh.rpc_errors import from_rpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.kvstore.v1 import kvstore_pb2

BLOCK_BYTES = 4096
QUICK_S = 10.0
"""Half of what a load may take at its worst, and far from what a hung call would take."""
ALL_ROOM = 1024
"""Blocks of 4 MiB of memory."""

HOLDS = """
import asyncio, sys
import grpc
from argosy.wire.kvstore.v1 import kvstore_pb2
from argosy.wire.kvstore.v1.kvstore_pb2_grpc import KvStoreStub

async def hold():
    stub = KvStoreStub(grpc.aio.insecure_channel(sys.argv[1]))
    get = stub.Get(kvstore_pb2.GetRequest(keys=[bytes.fromhex(sys.argv[2])], block_bytes=4096))
    assert (await get.read()).blocks_total == 1
    put = stub.Put()
    blocks = [kvstore_pb2.NewBlock(key=n.to_bytes(16)) for n in range(1, 6)]
    reserve = kvstore_pb2.Reserve(lease=1, block_bytes=4096, blocks=blocks)
    await put.write(kvstore_pb2.PutRequest(reserve=reserve))
    assert len((await put.read()).granted.rooms) == 5
    print("holding", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


def tier(stats: kvstore_pb2.StatsReply, number: int) -> kvstore_pb2.TierStats:
    return stats.tiers[number]


async def flushed(stub: Any, *, drop: bool = False) -> kvstore_pb2.FlushReply:
    reply = await call(stub.Flush, kvstore_pb2.FlushRequest(drop=drop), timeout_s=20)
    assert isinstance(reply, kvstore_pb2.FlushReply)
    return reply


async def refusal(awaited: Any) -> ArgosyError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await awaited
    return from_rpc(refused.value)


async def snapshot(stub: Any) -> tuple[set[int], set[int]]:
    held: tuple[set[int], set[int]] = (set(), set())
    async for part in stub.KvSnapshot(inference_pb2.KvSnapshotRequest()):
        assert not held[part.dp_rank] & set(part.blocks)
        held[part.dp_rank].update(part.blocks)
    return held


def put(stub: Any) -> Any:
    """A writer's stream."""
    return stub.Put(timeout=20)


async def reserve(
    stream: Any, lease: int, keys: list[bytes], block_bytes: int = BLOCK_BYTES
) -> kvstore_pb2.Granted:
    blocks = [kvstore_pb2.NewBlock(key=key, tokens=4) for key in keys]
    asked = kvstore_pb2.Reserve(lease=lease, block_bytes=block_bytes, blocks=blocks)
    await stream.write(kvstore_pb2.PutRequest(reserve=asked))
    try:
        reply = await stream.read()
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from None
    assert isinstance(reply.granted, kvstore_pb2.Granted)
    return reply.granted


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def test_what_was_saved_is_loaded_byte_for_byte_from_memory(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    writer, reader = await launch(fleet), await launch(fleet, "decode-1")
    await asyncio.gather(writer.sees(store), reader.sees(store))
    prompt = tokens(1, 20)
    assert await reader.load(prompt) == 0
    await writer.save(prompt)
    assert await reader.load(prompt) == 20
    assert await writer.load(prompt) == 20
    found = await stats(dial(store))
    assert (tier(found, 0).blocks, tier(found, 0).tokens) == (20, 80)
    assert tier(found, 0).hit_blocks == 40
    assert tier(found, 0).used_bytes == 20 * BLOCK_BYTES
    assert found.counts.stored_blocks == 20


async def test_only_the_prefix_that_is_there_is_loaded_from_where_it_is_wanted(
    store_process: Any, launch: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(2, 12)
    await instance.save(prompt[: 8 * 4])
    assert await instance.load(prompt) == 8
    assert await instance.load(prompt, held=3) == 5
    assert await instance.load(prompt, held=8) == 0
    assert await instance.load(prompt[: 4 * 5]) == 4  # The last token is always computed.
    assert await instance.load([*prompt[: 4 * 3], *tokens(3, 9)]) == 3
    assert await instance.load(tokens(4, 5)) == 0


async def test_another_salt_model_or_revision_gets_nothing(
    store_process: Any, launch: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    others = [
        await launch(fleet, "decode-1", model="another"),
        await launch(fleet, "decode-2", model_source="of other files"),
        await launch(fleet, "decode-3", dtype="float32"),
    ]
    for each in (instance, *others):
        await each.sees(store)
    prompt = tokens(5, 6)
    await instance.save(prompt, salt="tenant a")
    assert await instance.load(prompt) == 0
    assert await instance.load(prompt, salt="tenant b") == 0
    assert [await other.load(prompt, salt="tenant a") for other in others] == [0, 0, 0]
    assert await instance.load(prompt, salt="tenant a") == 6


async def test_what_a_store_lost_is_offered_again_by_who_still_has_it(
    store_process: Any, launch: Any, dial: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(60, 10)
    await instance.save(prompt[: 4 * 8])
    assert (await instance.ask(prompt, held=6)).stored_blocks == 8
    await dial(store).Flush(kvstore_pb2.FlushRequest(drop=True))
    assert (await instance.ask(prompt, held=6)).stored_blocks == 0
    await instance.save(prompt[: 4 * 3])
    assert (await instance.ask(prompt, held=6)).stored_blocks == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_after_a_restart_flushed_blocks_come_from_ssd(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, number: int
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompts = [tokens(seed, 10) for seed in range(6, 10)]
    for prompt in prompts:
        await instance.save(prompt)
    assert (await flushed(dial(store))).written_blocks == 40
    store.end(number)
    again = store_process.begin(fleet)
    await instance.sees(again)
    found = await stats(dial(again))
    assert found.counts.recovered_blocks == 40
    assert [t.blocks for t in found.tiers] == [0, 40]
    for prompt in prompts:
        assert await instance.load(prompt) == 10
    found = await stats(dial(again))
    assert (tier(found, 1).hit_blocks, tier(found, 0).blocks) == (40, 40)
    assert await instance.load(prompts[0]) == 10
    assert tier(await stats(dial(again)), 0).hit_blocks == 10


async def test_a_block_asked_for_again_outlives_the_store_without_a_flush(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, eventually: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(11, 9)
    await instance.save(prompt)
    for _ in range(3):
        assert await instance.load(prompt) == 9

    async def are_on_ssd() -> bool:
        return tier(await stats(dial(store)), 1).blocks == 9

    await eventually(are_on_ssd)
    store.end()
    await instance.sees(again := store_process.begin(fleet))
    assert await instance.load(prompt) == 9
    assert again.address


async def test_of_two_stores_that_share_a_fleet_one_can_be_lost_with_only_its_blocks(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any
) -> None:
    fleet = store_process.fleet()
    stores = [store_process.begin(fleet, name) for name in ("kvstore-0", "kvstore-1")]
    instance = await launch(fleet)
    await instance.sees(*stores)
    prompts = [tokens(seed, 40) for seed in range(20, 24)]
    for prompt in prompts:
        await instance.save(prompt)
    shares = [tier(await stats(dial(store)), 0).blocks for store in stores]
    assert sum(shares) == 160
    assert min(shares) >= 16
    assert [await instance.load(prompt) for prompt in prompts] == [40] * 4
    stores[0].end()
    left = [await instance.load(prompt) for prompt in prompts]
    await instance.sees(stores[1])
    assert all(loaded % 16 == 0 or loaded == 40 for loaded in left)
    assert sum(left) <= shares[1]
    new = tokens(24, 40)
    await instance.save(new)
    assert await instance.load(new) == 40


async def test_a_store_that_dies_is_left_out_at_once_and_used_again_when_it_is_back(
    store_process: Any, launch: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(30, 10)
    await instance.save(prompt)
    store.end()
    began_s = time.monotonic()
    assert await instance.load(prompt) == 0
    assert time.monotonic() - began_s < QUICK_S
    assert instance.store().breaker.open
    await loads_without_waiting(instance, prompt)
    await instance.save(tokens(31, 20))
    await instance.sees(store_process.begin(fleet))
    await instance.save(prompt)
    assert await instance.load(prompt) == 10


async def test_a_store_that_hangs_is_left_out_and_comes_back_with_all_it_had(
    store_process: Any, launch: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(32, 10)
    await instance.save(prompt)
    store.send(signal.SIGSTOP)
    began_s = time.monotonic()
    assert await instance.load(prompt) == 0
    assert time.monotonic() - began_s < QUICK_S
    assert instance.store().breaker.open
    await loads_without_waiting(instance, prompt)
    await instance.save(tokens(33, 20))
    store.send(signal.SIGCONT)
    await instance.sees(store)
    assert await instance.load(prompt) == 10


async def loads_without_waiting(instance: Any, prompt: list[int]) -> None:
    began_s = time.monotonic()
    for _ in range(20):
        assert await instance.load(prompt) == 0
    assert time.monotonic() - began_s < QUICK_S


async def test_saves_under_way_when_a_store_hangs_dies_or_is_replaced_give_their_slots_back(
    store_process: Any, launch: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    await instance.save(tokens(34, 3))
    store.send(signal.SIGSTOP)
    instance.stage(tokens(35, 30))
    instance.stage(tokens(36, 60))
    store.end()
    again = store_process.begin(fleet)
    await instance.at_rest()
    await instance.sees(again)
    await instance.save(tokens(36, 60))
    assert await instance.load(tokens(36, 60)) == 60


async def test_staging_memory_is_kept_while_blocks_in_it_wait_to_be_stored(
    store_process: Any, launch: Any, tokens: Any
) -> None:
    """What an instance that sleeps meanwhile had staged is stored as it was, or not at all."""
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    store.send(signal.SIGSTOP)
    instance.stage(tokens(37, 30))
    await instance.link.withdraw()
    await instance.link.register()
    store.send(signal.SIGCONT)
    await instance.at_rest()
    await instance.sees(store)
    assert await instance.load(tokens(37, 30)) in (0, 30)
    await instance.link.withdraw()
    await instance.link.register()
    await instance.save(tokens(38, 30))
    assert await instance.load(tokens(38, 30)) == 30


async def test_without_room_saves_are_dropped_and_loads_go_on(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, eventually: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet, ssd_dir=None, ssd_bytes=0, lease_s=0.4)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(40, 10)
    await instance.save(prompt)
    hoard = put(dial(store))
    get = dial(store).Get(
        kvstore_pb2.GetRequest(keys=instance.chain(prompt).keys[:10], block_bytes=BLOCK_BYTES)
    )
    await get.read()
    granted = await reserve(hoard, 1, [key(n) for n in range(2 * ALL_ROOM)])
    assert len(granted.rooms) == ALL_ROOM - 10
    await instance.save(tokens(41, 30))
    assert (await stats(dial(store))).counts.refused_blocks > 30
    assert await instance.load(tokens(41, 30)) == 0
    assert await instance.load(prompt) == 10
    hoard.cancel()
    get.cancel()

    async def is_there_room() -> bool:
        await instance.save(tokens(41, 30))
        return bool(await instance.load(tokens(41, 30)) == 30)

    await eventually(is_there_room)


async def test_what_a_killed_client_held_is_free_again(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, eventually: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet, lease_s=1)
    instance = await launch(fleet)
    await instance.sees(store)
    await instance.save(tokens(42, 1))
    used = tier(await stats(dial(store)), 0).used_bytes
    held = instance.chain(tokens(42, 1)).keys[0].hex()
    client = subprocess.Popen(
        [sys.executable, "-c", HOLDS, store.address, held], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    assert await asyncio.to_thread(client.stdout.readline) == "holding\n"
    found = await stats(dial(store))
    assert found.leases == 2
    assert tier(found, 0).used_bytes == used + 5 * BLOCK_BYTES
    client.kill()
    client.communicate()

    async def are_leases_over() -> bool:
        return (await stats(dial(store))).leases == 0

    async def is_room_back() -> bool:
        return bool(tier(await stats(dial(store)), 0).used_bytes == used)

    await eventually(are_leases_over)
    await eventually(is_room_back)
    assert (await flushed(dial(store), drop=True)).dropped_blocks == 1


async def test_a_lease_ends_in_time_though_its_holder_does_not(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, eventually: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet, lease_s=0.3)
    instance = await launch(fleet)
    await instance.sees(store)
    await instance.save(tokens(43, 3))
    stub = dial(store)
    keys = instance.chain(tokens(43, 3)).keys
    get = stub.Get(kvstore_pb2.GetRequest(keys=keys, block_bytes=BLOCK_BYTES), timeout=20)
    first = await get.read()
    assert (first.blocks_total, len(first.blocks), first.last) == (3, 3, True)
    stream = put(stub)
    assert len((await reserve(stream, 7, [key(1), key(2)])).rooms) == 2
    assert await get.read() is grpc.aio.EOF
    assert await get.code() == grpc.StatusCode.OK

    async def are_both_over() -> bool:
        return (await stats(stub)).counts.expired_leases == 2

    await eventually(are_both_over)
    late = kvstore_pb2.Commit(lease=7, checksums=[1, 2])
    await stream.write(kvstore_pb2.PutRequest(commit=late))
    assert (await stream.read()).committed == kvstore_pb2.Committed(lease=7, stored=0)
    stream.cancel()


async def test_a_full_disk_is_told_and_memory_goes_on(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet, file_bytes=12 << 20)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(44, 10)
    await instance.save(prompt)
    with pytest.raises(ArgosyError, match="cannot write to the SSD tier") as failed:
        await flushed(dial(store))
    assert failed.value.reason is Reason.NOT_READY
    found = await stats(dial(store))
    assert "SSD" in found.ssd_trouble
    assert (found.ssd_writing, tier(found, 1).used_bytes) == (0, 0)
    assert await instance.load(prompt) == 10
    await instance.save(tokens(45, 60))
    assert await instance.load(tokens(45, 60)) == 60


async def test_blocks_of_a_file_that_was_cut_off_are_misses(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(46, 10)
    await instance.save(prompt)
    await flushed(dial(store))
    store.end()
    await instance.sees(again := store_process.begin(fleet))
    (file,) = again.files()
    os.truncate(file, 8192)
    assert await instance.load(prompt) < 10
    assert not instance.store().breaker.open
    found = await stats(dial(again))
    assert found.counts.corrupt_blocks > 0
    assert found.leases == 0
    await instance.save(prompt)
    assert await instance.load(prompt) == 10


async def test_verify_finds_a_flipped_bit_and_drops_the_block_with_what_follows_it(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(47, 10)
    await instance.save(prompt)
    await flushed(dial(store))
    store.end()
    await instance.sees(again := store_process.begin(fleet))
    assert (await verified(dial(again))).corrupt_blocks == 0
    flip_a_bit(again, instance.chain(prompt).keys[6])
    last = await verified(dial(again))
    assert (last.total_blocks, last.checked_blocks, last.corrupt_blocks) == (10, 10, 1)
    assert tier(await stats(dial(again)), 1).blocks == 6
    assert await instance.load(prompt) == 6
    assert (await verified(dial(again))).corrupt_blocks == 0


async def test_a_flipped_bit_that_nobody_verified_is_a_miss_when_it_is_read(
    store_process: Any, launch: Any, dial: Any, tokens: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(48, 10)
    await instance.save(prompt)
    await flushed(dial(store))
    store.end()
    await instance.sees(again := store_process.begin(fleet))
    flip_a_bit(again, instance.chain(prompt).keys[4])
    assert await instance.load(prompt) == 4
    await instance.save(prompt)
    assert await instance.load(prompt) == 10


async def verified(stub: Any) -> kvstore_pb2.VerifyProgress:
    told = [part async for part in stub.Verify(kvstore_pb2.VerifyRequest(), timeout=20)]
    assert isinstance(told[-1], kvstore_pb2.VerifyProgress)
    return told[-1]


def flip_a_bit(store: Any, block: bytes) -> None:
    """Of a block's bytes on SSD, which lie a page behind its header."""
    (file,) = store.files()
    data = file.read_bytes()
    header = data.index(block + b"\1" if block + b"\1" in data else block)
    at = header // 4096 * 4096 + 4096 + 77
    with file.open("r+b") as segment:
        segment.seek(at)
        segment.write(bytes([data[at] ^ 4]))


async def test_a_block_that_was_not_written_as_claimed_is_never_used_and_dropped(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, eventually: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(49, 1)
    stream = put(dial(store))
    await reserve(stream, 1, instance.chain(prompt).keys)
    lie = kvstore_pb2.Commit(lease=1, checksums=[12345])
    await stream.write(kvstore_pb2.PutRequest(commit=lie))
    await stream.read()
    assert await instance.load(prompt) == 0

    async def is_it_gone() -> bool:
        return tier(await stats(dial(store)), 0).blocks == 0

    await eventually(is_it_gone)
    assert not instance.store().breaker.open
    await instance.save(prompt)
    assert await instance.load(prompt) == 1
    stream.cancel()


async def test_bad_input_is_refused_and_costs_nobody_else(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any, eventually: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet)
    instance = await launch(fleet)
    await instance.sees(store)
    prompt = tokens(50, 10)
    await instance.save(prompt)
    stub = dial(store)
    for keys in ([b"short"], [b""], [key(1), b"x" * 17], [key(n) for n in range(70_000)]):
        request = kvstore_pb2.GetRequest(keys=keys, block_bytes=BLOCK_BYTES)
        assert (await refusal(stub.Get(request).read())).reason is Reason.BAD_REQUEST
        with pytest.raises(ArgosyError) as refused:
            await reserve(put(stub), 1, keys)
        assert refused.value.reason is Reason.BAD_REQUEST
    for size in (0, 1):
        with pytest.raises(ArgosyError) as refused:
            await reserve(put(stub), 1, [key(1)], size)
        assert refused.value.reason is Reason.BAD_REQUEST
    for size in (5 << 20, 1 << 40, (1 << 63) - 1):
        assert not (await reserve(put(stub), 1, [key(1)], size)).rooms
    twice = put(stub)
    await reserve(twice, 1, [key(1)])
    with pytest.raises(ArgosyError, match="in use already"):
        await reserve(twice, 1, [key(2)])
    unknown = put(stub)
    commit = kvstore_pb2.Commit(lease=9, checksums=[1])
    await unknown.write(kvstore_pb2.PutRequest(commit=commit))
    assert (await refusal(unknown.read())).reason is Reason.BAD_REQUEST
    nothing = stub.Get(kvstore_pb2.GetRequest(keys=[], block_bytes=BLOCK_BYTES))
    assert (await nothing.read()).last

    async def are_leases_over() -> bool:
        return (await stats(stub)).leases == 0

    await eventually(are_leases_over)
    assert await instance.load(prompt) == 10


async def test_a_snapshot_is_what_the_facts_add_up_to(
    store_process: Any,
    launch: Any,
    dial: Any,
    listen: Any,
    tokens: Any,
    stats: Any,
    eventually: Any,
) -> None:
    fleet = store_process.fleet()
    heard = await listen(fleet)
    store = store_process.begin(fleet, dram_bytes=1 << 20, ssd_bytes=4 << 20)
    instance = await launch(fleet)
    await instance.sees(store)
    for seed in range(60, 68):
        await instance.save(tokens(seed, 60))
        await instance.load(tokens(seed - seed % 2, 60))
    await flushed(dial(store))
    assert tier(await stats(dial(store)), 0).evicted_blocks > 0

    async def are_they_equal() -> bool:
        held = await snapshot(dial(store))
        return held == heard.blocks and bool(held[0] and held[1])

    await eventually(are_they_equal)
    found = await stats(dial(store))
    assert [t.blocks for t in found.tiers] == [len(blocks) for blocks in heard.blocks]
    await flushed(dial(store), drop=True)

    async def is_all_gone() -> bool:
        return await snapshot(dial(store)) == heard.blocks == (set(), set())

    await eventually(is_all_gone)


async def test_memory_stays_within_its_limit_under_many_writers_and_readers(
    store_process: Any, launch: Any, dial: Any, tokens: Any, stats: Any
) -> None:
    fleet = store_process.fleet()
    store = store_process.begin(fleet, dram_bytes=1 << 20, ssd_bytes=2 << 20)
    instances = [await launch(fleet, f"decode-{number}") for number in range(3)]
    for instance in instances:
        await instance.sees(store)

    async def work(number: int, instance: Any) -> int:
        loaded = 0
        for turn in range(12):
            await instance.save(tokens(70 + (number + turn) % 8, 40))
            loaded += await instance.load(tokens(70 + turn % 8, 40))
            found = await stats(dial(store))
            for each in found.tiers:
                assert each.used_bytes <= each.capacity_bytes
        return loaded

    loads = await asyncio.gather(
        *(work(number, instance) for number, instance in enumerate(instances))
    )
    assert min(loads) > 0
    found = await stats(dial(store))
    assert (found.counts.corrupt_blocks, found.leases, found.ssd_trouble) == (0, 0, "")
