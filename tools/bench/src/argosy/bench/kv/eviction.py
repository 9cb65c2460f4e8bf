"""Eviction policies of the KV store on a trace: what share of prompt tokens is found held.

A prompt asks for its chain of full blocks; its hit is the longest prefix that is held.
Then all of them are stored, root first, and victims make room; the chain is pinned
meanwhile. The oracle knows all asks to come. gap_closed: of what it finds more than LRU
does, the share that the learned policy finds. infinite: nothing ever has to go.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from argosy.bench.kv import eviction_tiers
from argosy.bench.kv.oracle import NextUseOracle
from argosy.cli import console
from argosy.domain import plugins
from argosy.kvstore.core.eviction import EvictionPolicy, build_policy
from argosy.kvstore.policies import GROUP
from argosy.sim.traces.trace import MOONCAKE_BLOCK_TOKENS, TraceError, TraceRequest, read_trace

BLOCK_TOKENS = MOONCAKE_BLOCK_TOKENS
SIZES_TOKENS = (500_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000)
DRAM_TOKENS, SSD_TOKENS = 3_000_000, 20_000_000
OURS, BASELINE, BEST = "learned", "lru", "oracle"
NAMES = (*plugins.names(GROUP), BEST)
"""Every installed policy, and the oracle."""


def make(name: str, capacity_blocks: int, requests: Sequence[TraceRequest]) -> EvictionPolicy:
    """A policy, or the oracle for these requests."""
    if name == BEST:
        return NextUseOracle(capacity_blocks, (request.blocks for request in requests))
    return build_policy(name, capacity_blocks)


def hit_tokens(
    policy: EvictionPolicy, capacity_blocks: int, requests: Sequence[TraceRequest]
) -> int:
    """Prompt tokens found held, over all requests."""
    held: set[int] = set()
    found = 0
    for request in requests:
        now_us, chain = request.arrived_us, request.blocks
        policy.asked(chain, now_us)
        depth = leading(chain, held)
        found += depth
        above = chain[depth - 1] if depth else None
        if above is not None:
            policy.pin(above)
        for key in chain[depth:]:
            if len(held) >= capacity_blocks:
                victim = policy.victim(now_us)
                if victim is None:
                    break
                assert isinstance(victim, int)
                policy.removed(victim)
                held.remove(victim)
            held.add(key)
            policy.stored(key, above, now_us)
            policy.pin(key)
            if above is not None:
                policy.unpin(above)
            above = key
        if above is not None:
            policy.unpin(above)
    return found * BLOCK_TOKENS


def leading(chain: Sequence[int], held: set[int]) -> int:
    """How many blocks of the chain are held, from its root on."""
    for depth, key in enumerate(chain):
        if key not in held:
            return depth
    return len(chain)


def infinite_tokens(requests: Sequence[TraceRequest]) -> int:
    """Prompt tokens found if nothing ever had to go."""
    held: set[int] = set()
    found = 0
    for request in requests:
        found += leading(request.blocks, held)
        held.update(request.blocks)
    return found * BLOCK_TOKENS


def run_kv(trace: Path, *, as_json: bool) -> None:
    """Every policy at every size, and report."""
    try:
        requests = read_trace(trace, None, BLOCK_TOKENS)
    except TraceError as error:
        console.fail(str(error))
    prompt_tokens = sum(request.prompt_tokens for request in requests)
    share: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    with Progress(console=console.err, transient=True) as progress:
        task = progress.add_task("replaying", total=len(NAMES) * len(SIZES_TOKENS))
        for size in SIZES_TOKENS:
            capacity_blocks = size // BLOCK_TOKENS
            for name in NAMES:
                policy = make(name, capacity_blocks, requests)
                found = hit_tokens(policy, capacity_blocks, requests)
                share[name][str(size)] = found / prompt_tokens
                progress.advance(task)
        task = progress.add_task("both tiers", total=len(requests))
        tiers = eviction_tiers.hit_tokens(
            requests, BLOCK_TOKENS, DRAM_TOKENS, SSD_TOKENS, lambda: progress.advance(task)
        )
    report = {
        "requests": len(requests),
        "prompt_tokens": prompt_tokens,
        "block_tokens": BLOCK_TOKENS,
        "sizes_tokens": list(SIZES_TOKENS),
        "hit_share": share,
        "infinite": infinite_tokens(requests) / prompt_tokens,
        "tiers": {
            "dram_tokens": DRAM_TOKENS,
            "ssd_tokens": SSD_TOKENS,
            "hit_share": tiers / prompt_tokens,
        },
        **compared(share),
    }
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def compared(share: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Where the learned policy is between LRU and the oracle."""
    ours, base, best = share[OURS], share[BASELINE], share[BEST]
    return {
        "gap_closed": {
            size: (ours[size] - base[size]) / (best[size] - base[size])
            if best[size] > base[size]
            else None
            for size in ours
        },
        "worst_vs_lru_points": min(100 * (ours[size] - base[size]) for size in ours),
    }


def show(report: dict[str, Any]) -> None:
    """A row for each size, and the figures."""
    table = Table(box=None, title="prompt tokens found held")
    table.add_column("tokens", justify="right")
    for name in (*NAMES, "gap closed"):
        table.add_column(name, justify="right")
    for size in map(str, report["sizes_tokens"]):
        closed = report["gap_closed"][size]
        table.add_row(
            f"{int(size):,}",
            *(f"{report['hit_share'][name][size]:.1%}" for name in NAMES),
            "-" if closed is None else f"{closed:.2f}",
        )
    console.out.print(table)
    tiers = report["tiers"]
    console.out.print(
        f"DRAM {tiers['dram_tokens']:,} + SSD {tiers['ssd_tokens']:,} tokens: "
        f"{tiers['hit_share']:.1%}; infinite: {report['infinite']:.1%}"
    )
    console.out.print(f"worst_vs_lru_points: {report['worst_vs_lru_points']:+.2f}")
