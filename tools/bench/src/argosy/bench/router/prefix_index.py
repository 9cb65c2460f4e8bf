"""The router's decision and its prefix index, alone: no network, no engines.

decide_us: hashing an 8,192-token prompt, the whole step of the core that admits it and
chooses where it goes, its queue, ledger and index included. Half of the prompts continue
what some instance has cached, as conversations do.
events_per_s: KV blocks stored and removed, told to the core in change facts.
Both in CPU time of the thread: what others do on the machine does not count.
bytes_per_block: what the index grows by for each block it holds, by tracemalloc.
"""

import gc
import json
import random
import time
import tracemalloc
from array import array
from typing import Any

from rich.progress import track
from rich.table import Table

from argosy.cli import console
from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.router.core import effects, events
from argosy.router.core.prefix_index import PrefixIndex
from argosy.router.core.router import RouterCore
from argosy.router.core.state import RouterLimits, new_state
from argosy.router.policies import new_core as new_router_core

PROMPT_TOKENS = 8192
BLOCK_TOKENS = 64
BLOCKS_PER_INSTANCE = 4096
BLOCKS_PER_FACT = 64
INSTANCES = (16, 256)
REQUESTS_PER_S = 2
"""Of each instance, in virtual time: about a third of what it could prefill."""
ROOT = root_hash("bench")


def new_core(instances: int) -> RouterCore:
    """A router that knows this many instances, all idle."""
    limits = RouterLimits(stale_us=1 << 60)
    core = new_router_core(new_state(limits))
    for number in range(instances):
        core.step(
            events.InstanceJoined(
                now_us=0,
                instance=f"decode-{number}",
                epoch="e",
                role="decode",
                address=f"host-{number}:1",
                node=f"node-{number}",
                model="bench",
                kv_total_blocks=1 << 20,
                block_tokens=BLOCK_TOKENS,
                max_model_tokens=1 << 20,
                max_running_requests=256,
            )
        )
    return core


def prompts(count: int, seed: int) -> "list[array[int]]":
    """Random token ids; every second prompt shares its first three quarters with the one before."""
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    found: list[array[int]] = []
    for number in range(count):
        tokens = array("I", chance.choices(range(50_000), k=PROMPT_TOKENS))
        if number % 2:
            shared = PROMPT_TOKENS * 3 // 4
            tokens[:shared] = found[-1][:shared]
        found.append(tokens)
    return found


def measure_decide(instances: int, decisions: int, seed: int) -> list[float]:
    """Microseconds of each decision."""
    core = new_core(instances)
    for event in change_facts(instances, instances * BLOCKS_PER_INSTANCE, seed):
        core.step(event)
    work = prompts(decisions, seed)
    for number, tokens in enumerate(work[::2]):
        blocks = chained_block_hashes(tokens, BLOCK_TOKENS, ROOT)
        holder = f"decode-{number % instances}"
        core.state.index.store(f"{holder}/0", blocks)
    took: list[float] = []
    step_us = 1_000_000 // (REQUESTS_PER_S * instances)
    for number, tokens in enumerate(work):
        now_us = (number + 1) * step_us
        began = time.thread_time_ns()
        blocks = chained_block_hashes(tokens, BLOCK_TOKENS, ROOT)
        decided = core.step(
            events.RequestArrived(
                now_us=now_us,
                request_id=str(number),
                model="bench",
                prompt_tokens=PROMPT_TOKENS,
                max_tokens=128,
                deadline_us=now_us + 60_000_000,
                blocks=blocks,
            )
        )
        took.append((time.thread_time_ns() - began) / 1e3)
        assert not any(isinstance(effect, effects.Reject) for effect in decided)
        core.step(
            events.RequestEnded(
                now_us=now_us + step_us // 2, request_id=str(number), output_tokens=1
            )
        )
        core.state.index.forget_speculative(now_us)
    return took


def change_facts(instances: int, blocks: int, seed: int) -> list[events.KvChanged]:
    """Facts that store this many random blocks; each removes a few of what its instance had."""
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    held: dict[int, list[int]] = {n: [] for n in range(instances)}
    sequences = dict.fromkeys(range(instances), 0)
    found = []
    for number in range(blocks // BLOCKS_PER_FACT):
        instance = number % instances
        stored = [chance.getrandbits(64) for _ in range(BLOCKS_PER_FACT)]
        removed = held[instance][:BLOCKS_PER_FACT] if sequences[instance] % 2 else []
        held[instance] = held[instance][len(removed) :] + stored
        sequences[instance] += 1
        found.append(
            events.KvChanged(
                now_us=0,
                instance=f"decode-{instance}",
                epoch="e",
                sequence=sequences[instance],
                stored=stored,
                removed=removed,
            )
        )
    return found


def measure_events(instances: int, blocks: int, seed: int) -> float:
    """Block events (stored or removed) per second."""
    core = new_core(instances)
    facts = change_facts(instances, blocks, seed)
    happened = sum(len(fact.stored) + len(fact.removed) for fact in facts)
    began = time.thread_time_ns()
    for fact in facts:
        core.step(fact)
    return happened / (time.thread_time_ns() - began) * 1e9


def measure_bytes(instances: int, blocks: int, seed: int) -> float:
    """Bytes per block, its hash included."""
    index = PrefixIndex(4 * blocks)
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(blocks // BLOCKS_PER_FACT):
            stored = [chance.getrandbits(64) for _ in range(BLOCKS_PER_FACT)]
            index.store(f"decode-{number % instances}/0", stored)
        del stored
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(index)


def run_index(decisions: int, seed: int, *, as_json: bool) -> None:
    """Measure at each size of fleet, and report."""
    sizes: dict[str, dict[str, Any]] = {}
    for instances in track(INSTANCES, "measuring", console=console.err, transient=True):
        took = sorted(measure_decide(instances, decisions, seed))
        sizes[str(instances)] = {
            "decide_us": {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99)},
            "events_per_s": measure_events(instances, 400_000, seed),
            "bytes_per_block": measure_bytes(instances, 300_000, seed),
        }
    report: dict[str, Any] = {
        "prompt_tokens": PROMPT_TOKENS,
        "block_tokens": BLOCK_TOKENS,
        "decisions": decisions,
        # Of the two sizes, the worse.
        "decide_us": {
            share: max(size["decide_us"][share] for size in sizes.values())
            for share in ("p50", "p99")
        },
        "events_per_s": min(size["events_per_s"] for size in sizes.values()),
        "bytes_per_block": max(size["bytes_per_block"] for size in sizes.values()),
        "instances": sizes,
    }
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def quantile(ordered: list[float], share: float) -> float:
    """Of values in ascending order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(report: dict[str, Any]) -> None:
    """A row for each size."""
    table = Table(box=None, title="8,192-token prompts")
    for title in ("instances", "decide p50, µs", "p99, µs", "block events/s", "bytes/block"):
        table.add_column(title, justify="right")
    for instances, size in report["instances"].items():
        table.add_row(
            instances,
            f"{size['decide_us']['p50']:.0f}",
            f"{size['decide_us']['p99']:.0f}",
            f"{size['events_per_s']:,.0f}",
            f"{size['bytes_per_block']:.0f}",
        )
    console.out.print(table)
