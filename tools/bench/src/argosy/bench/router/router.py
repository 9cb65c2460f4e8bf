"""What the router costs, and how long it takes: live processes, against an empty server.

Definitions. Where a figure comes of several spans of load, it is their median; spans of
what is compared take turns, so that both see the same machine.
- `added_ms`: what a caller waits for the router. direct: the whole Route call. proxied:
  time to first token through the router, less the time to first token of direct callers
  who hold their ticket already, at the same rate in the same run; percentile by
  percentile.
- `cpu_vs_empty`: CPU of the router's process and its children per request, over that of
  an empty grpc.aio server (direct, against Route) or of an empty grpc.aio relay
  (proxied, one output token), at the same rate with messages of the same size.
- `cpu_s_per_1k_tokens`: how much more router CPU an answer of LONG_TOKENS costs than
  one of a single token, at the same rate, per 1,000 tokens.
- `apart`: the same with a prefill instance beside decode, each prompt handed to it;
  all else is measured with a decode instance that prefills by itself, because on two
  cores the work of two instances leaves none for 500 requests/s.
- `idle_cores_100`: the router's CPU share while IDLE_INSTANCES more, with nothing to do,
  report every half second.
- `errors`: of STREAMS answers under way at once, those that failed or came incomplete.
- `rate`: the rate of what is not given by rate: the highest that was sustained.

The router runs as `argosy up` runs it, journal and spans on files included.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from argosy.bench.load_generator import LoadOrder, LoadOutcome
from argosy.bench.processes import FLEET, BenchProcesses
from argosy.bench.router.cpu_cost import Cost, measure
from argosy.bench.router.router_report import KINDS, Case, report_of
from argosy.cli import console

RATES = (200, 500)
SPANS = 4
SPAN_S = 2.0
LONG_TOKENS = 64
LONG_RATE = 80
STREAMS = 1500
STREAM_TOKENS = 64
STREAM_PROMPT_TOKENS = 16
STREAM_SIM_SPEED = 0.1
"""Slow enough that the last of the answers has begun before the first is over."""
IDLE_INSTANCES = 100
IDLE_S = 8.0


async def run_router(seed: int, *, as_json: bool) -> None:
    """Start everything, measure, report."""
    with tempfile.TemporaryDirectory(prefix="argosy-bench-") as folder:
        processes = BenchProcesses(Path(folder))
        try:
            report = await measured(processes, seed)
        finally:
            await asyncio.to_thread(processes.end)
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


async def measured(processes: BenchProcesses, seed: int) -> dict[str, Any]:
    """The report."""
    say("starting a fleet and the baselines")
    await processes.start_fleet("decode")
    bench = RouterBench(processes, await start_baselines(processes), seed)
    processes.start_module("load", "argosy.bench.load_generator")
    for rate in RATES:
        say(f"{rate:g} requests/s")
        await bench.spans(KINDS, rate)
    say(f"answers of {LONG_TOKENS} tokens")
    await bench.spans(("direct", "proxied"), LONG_RATE, 1, LONG_TOKENS)
    say("prefill apart")
    apart = RouterBench(processes, bench.empty, seed)
    await processes.start_instance("prefill", "prefill-0")
    await apart.spans(("direct", "proxied"), RATES[0])
    say(f"{STREAMS} answers at once")
    streams = await at_once(processes, seed)
    say(f"{IDLE_INSTANCES} idle instances")
    return report_of(bench.costs, apart.costs, streams, await idle_cores(processes), STREAMS)


async def start_baselines(processes: BenchProcesses) -> str:
    """The empty decode and the empty router in front of it; returns where the latter is."""
    processes.start_module("empty-decode", "argosy.bench.router.empty_server", "backend")
    port = int(await processes.line("empty-decode"))
    processes.start_module(
        "empty", "argosy.bench.router.empty_server", "router", f"127.0.0.1:{port}"
    )
    return f"127.0.0.1:{int(await processes.line('empty'))}"


class RouterBench:
    """Spans of load, and what they cost. empty: where the baselines are."""

    def __init__(self, processes: BenchProcesses, empty: str, seed: int) -> None:
        self.empty = empty
        self.costs: dict[Case, Cost] = {}
        self._processes = processes
        self._seed = seed

    async def spans(self, kinds: tuple[str, ...], rate: float, *max_tokens: int) -> None:
        """SPANS of each, in turns; one output token unless told."""
        for span in range(SPANS):
            for kind in kinds:
                for tokens in max_tokens or (1,):
                    await self._span(kind, rate, tokens, self._seed + 10 * span)

    async def _span(self, kind: str, rate: float, max_tokens: int, seed: int) -> None:
        baseline = kind.startswith("empty")
        order = LoadOrder(
            self.empty if baseline else self._processes.router,
            kind in ("empty", "direct"),
            seed,
            rate=rate,
            seconds=SPAN_S,
            max_tokens=max_tokens,
        )
        cost = self.costs.setdefault((kind, rate, max_tokens), Cost())
        await measure(self._processes, "empty" if baseline else "router", order, cost)


async def at_once(processes: BenchProcesses, seed: int) -> LoadOutcome:
    """Many answers at the same time, from one decode instance that takes its time."""
    processes.end("prefill-0", "decode-0")
    await processes.start_instance("decode", "decode-slow", sim_speed=str(STREAM_SIM_SPEED))
    order = LoadOrder(
        processes.router,
        False,
        seed,
        requests=STREAMS,
        max_tokens=STREAM_TOKENS,
        prompt_tokens=STREAM_PROMPT_TOKENS,
    )
    return await processes.order(order)


async def idle_cores(processes: BenchProcesses) -> float:
    """Cores the router uses with nothing but many idle instances to listen to."""
    processes.start_module(
        "idle-instances",
        "argosy.bench.router.idle_instances",
        processes.nats,
        FLEET,
        str(IDLE_INSTANCES),
    )
    await processes.line("idle-instances")
    await processes.until_live(count=IDLE_INSTANCES)
    before_s = processes.cpu_s("router")
    await asyncio.sleep(IDLE_S)
    return (processes.cpu_s("router") - before_s) / IDLE_S


def say(what: str) -> None:
    """Progress."""
    console.err.print(f"bench router: {what}")


def show(report: dict[str, Any]) -> None:
    """The report as a table."""
    table = Table(box=None, show_header=False)
    for name, value in report.items():
        table.add_row(name, str(value))
    console.out.print(table)
