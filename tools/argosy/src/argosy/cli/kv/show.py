"""What stores hold and did, as tables or JSON."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.progress import Progress
from rich.table import Table

from argosy.cli import console
from argosy.cli.kv.stores import FoundStores, stores_of
from argosy.launcher.home import RunningFleet
from argosy.mesh import rpc
from argosy.wire.kvstore.v1 import kvstore_pb2

TIMEOUT_S = 10
LONG_S = 600
TIERS = {kvstore_pb2.TIER_DRAM: "dram", kvstore_pb2.TIER_SSD: "ssd"}


async def show_stats(running: RunningFleet, *, as_json: bool) -> None:
    """Each store's tiers, and what became of what was asked and offered."""
    async with stores_of(running) as stores:
        replies = [
            await rpc.call(store.stub.Stats, kvstore_pb2.StatsRequest(), timeout_s=TIMEOUT_S)
            for store in stores
        ]
    if as_json:
        print(json.dumps([as_dict(reply) for reply in replies]))
        return
    tiers = Table(box=None)
    for title in ("store", "tier", "used", "capacity", "blocks", "tokens", "hits", "evicted"):
        tiers.add_column(title, justify="left" if title in ("store", "tier") else "right")
    for reply in replies:
        for tier in reply.tiers:
            tiers.add_row(
                reply.store_id,
                TIERS[tier.tier],
                mib(tier.used_bytes),
                mib(tier.capacity_bytes),
                f"{tier.blocks:,}",
                f"{tier.tokens:,}",
                f"{tier.hit_blocks:,}",
                f"{tier.evicted_blocks:,}",
            )
    console.out.print(tiers)
    for reply in replies:
        counts = reply.counts
        hits = sum(tier.hit_blocks for tier in reply.tiers)
        share = hits / counts.asked_blocks if counts.asked_blocks else 0
        console.out.print(
            f"{reply.store_id}: {hits:,} of {counts.asked_blocks:,} blocks asked for were here "
            f"({share:.0%}); stored {counts.stored_blocks:,}, no room for "
            f"{counts.refused_blocks:,}, "
            f"let go unwritten {counts.let_go_blocks:,}, corrupt {counts.corrupt_blocks:,}, "
            f"recovered {counts.recovered_blocks:,}; leases {reply.leases}, "
            f"expired {counts.expired_leases:,}"
        )
        if reply.ssd_trouble:
            console.out.print(f"[red]{reply.store_id}: {reply.ssd_trouble}[/]")


async def show_top(running: RunningFleet, limit: int, *, as_json: bool) -> None:
    """The prefixes asked for most often, of all stores."""
    found: list[tuple[str, kvstore_pb2.HotPrefix]] = []
    async with stores_of(running) as stores:
        for store in stores:
            request = kvstore_pb2.TopRequest(limit=limit)
            reply = await rpc.call(store.stub.Top, request, timeout_s=TIMEOUT_S)
            found += [(store.name, prefix) for prefix in reply.prefixes]
    found.sort(key=lambda item: -item[1].asked)
    if as_json:
        print(json.dumps([{"store": name, **as_dict(prefix)} for name, prefix in found[:limit]]))
        return
    table = Table(box=None)
    for title in ("prefix", "asked", "tokens", "blocks", "dram", "ssd", "idle s", "store"):
        table.add_column(title, justify="left" if title in ("prefix", "store") else "right")
    for name, prefix in found[:limit]:
        table.add_row(
            f"{prefix.hash:016x}",
            f"{prefix.asked:,}",
            f"{prefix.tokens:,}",
            f"{prefix.blocks:,}",
            f"{prefix.dram_blocks:,}",
            f"{prefix.ssd_blocks:,}",
            f"{prefix.idle_ms / 1e3:.1f}",
            name,
        )
    console.out.print(table)


async def flush(running: RunningFleet, only: str, *, drop: bool, as_json: bool) -> None:
    """Write what is only in memory to SSD, or drop every block."""
    async with stores_of(running, only) as stores:
        replies = {}
        for store in stores:
            request = kvstore_pb2.FlushRequest(drop=drop)
            with console.err.status(f"{store.name}: {'dropping' if drop else 'writing'}"):
                replies[store.name] = await rpc.call(
                    store.stub.Flush, request, timeout_s=LONG_S, instance=store.name
                )
    if as_json:
        print(json.dumps({name: as_dict(reply) for name, reply in replies.items()}))
        return
    for name, reply in replies.items():
        done = f"dropped {reply.dropped_blocks:,}" if drop else f"wrote {reply.written_blocks:,}"
        console.out.print(f"{name}: {done} blocks")


async def verify(running: RunningFleet, only: str, *, as_json: bool) -> bool:
    """Check every block of every tier; True when none was corrupt."""
    async with stores_of(running, only) as stores:
        with Progress(console=console.err, transient=True) as progress:
            last = {store.name: await verify_one(store, progress) for store in stores}
    if as_json:
        print(json.dumps({name: as_dict(checked) for name, checked in last.items()}))
    else:
        for name, checked in last.items():
            console.out.print(
                f"{name}: {checked.checked_blocks:,} blocks checked, "
                f"{checked.corrupt_blocks:,} corrupt (dropped)"
            )
    return not any(checked.corrupt_blocks for checked in last.values())


async def verify_one(store: FoundStores, progress: Progress) -> kvstore_pb2.VerifyProgress:
    """One store, with a bar."""
    task = progress.add_task(store.name, total=None)
    last = kvstore_pb2.VerifyProgress()
    parts = rpc.stream(
        store.stub.Verify, kvstore_pb2.VerifyRequest(), timeout_s=LONG_S, instance=store.name
    )
    async for last in parts:
        progress.update(task, total=last.total_blocks, completed=last.checked_blocks)
    return last


def as_dict(message: Any) -> dict[str, Any]:
    """For JSON: all fields, numbers as numbers."""
    found = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return {name: number(value) for name, value in found.items()}


def number(value: Any) -> Any:
    """64-bit integers, which protobuf's JSON writes as strings, as numbers."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if isinstance(value, dict):
        return {name: number(part) for name, part in value.items()}
    return [number(part) for part in value] if isinstance(value, list) else value


def mib(size_bytes: int) -> str:
    """For people."""
    return f"{size_bytes / (1 << 20):,.0f} MiB"
