"""The figures of `argosy bench router`. What each means stands in argosy.bench.router.router."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import psutil

from argosy.bench.load_generator import LoadOutcome
from argosy.bench.router.cpu_cost import Cost

KINDS = ("empty", "direct", "empty relay", "proxied")
BASELINES = {"direct": "empty", "proxied": "empty relay"}

Case = tuple[str, float, int]
"""Kind, rate, output tokens."""


def report_of(
    costs: Mapping[Case, Cost],
    apart: Mapping[Case, Cost],
    streams: LoadOutcome,
    idle_cores: float,
    wanted_streams: int,
) -> dict[str, Any]:
    """The report as JSON has it. apart: with a prefill instance beside decode."""
    rates = sorted({rate for kind, rate, _ in costs if kind == "empty"})
    rate = sustained(costs, rates)
    added = {f"{r:g}": added_ms(costs, r) for r in rates}
    every = {**costs, **{(f"{kind} apart", r, n): c for (kind, r, n), c in apart.items()}}
    limits = list(limits_of(every, streams, wanted_streams))
    return {
        "added_ms": added[f"{rate:g}"]["proxied"],
        "added_ms_by_rate": added,
        "cpu_vs_empty": versus_empty(costs, costs, rate),
        "cpu_ms_per_request": {kind: round(costs[kind, rate, 1].cpu_ms, 3) for kind in KINDS},
        "cpu_s_per_1k_tokens": {kind: round(per_1k_tokens(costs, kind), 4) for kind in BASELINES},
        "apart": apart_of(apart, costs),
        "idle_cores_100": round(idle_cores, 3),
        "errors": streams.errors + streams.incomplete,
        "streams": streams.open_most,
        "requests": sum(cost.requests for cost in every.values()),
        "failed": sum(cost.failed for cost in every.values()),
        "rates": rates,
        "rate": rate,
        "cores": psutil.cpu_count(),
        "limits": limits,
    }


def sustained(costs: Mapping[Case, Cost], rates: Iterable[float]) -> float:
    """The highest rate at which every kind of request kept up; the lowest if none did."""
    kept = [r for r in rates if all(costs[kind, r, 1].sustained for kind in KINDS)]
    return max(kept, default=min(rates))


def versus_empty(
    costs: Mapping[Case, Cost], baselines: Mapping[Case, Cost], rate: float
) -> dict[str, float]:
    """CPU per request over the baseline's at that rate."""
    return {
        kind: round(costs[kind, rate, 1].over(baselines[baseline, rate, 1]), 3)
        for kind, baseline in BASELINES.items()
    }


def apart_of(apart: Mapping[Case, Cost], costs: Mapping[Case, Cost]) -> dict[str, Any]:
    """The same with prefill and decode apart, at the one rate that was measured."""
    rate = next(rate for _, rate, _ in apart)
    ratios = versus_empty(apart, costs, rate)
    return {"rate": rate, "cpu_vs_empty": ratios, "added_ms": added_ms(apart, rate)}


def added_ms(costs: Mapping[Case, Cost], rate: float) -> dict[str, dict[str, float]]:
    """p50 and p95 of what the router adds, by way: the median of the spans."""
    direct, proxied = costs["direct", rate, 1].spans, costs["proxied", rate, 1].spans
    ways: dict[str, dict[str, float]] = {"direct": {}, "proxied": {}}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        routes = [span.route_ms(share) for span in direct]
        more = [p.ttft_ms(share) - d.ttft_ms(share) for p, d in zip(proxied, direct, strict=True)]
        ways["direct"][name] = round(statistics.median(routes), 2)
        ways["proxied"][name] = round(statistics.median(more), 2)
    return ways


def per_1k_tokens(costs: Mapping[Case, Cost], kind: str) -> float:
    """Router CPU seconds for 1,000 tokens more."""
    (rate, longest) = max((rate, n) for k, rate, n in costs if k == kind and n > 1)
    more_ms = costs[kind, rate, longest].cpu_ms - costs[kind, rate, 1].cpu_ms
    return more_ms / (longest - 1)


def limits_of(
    costs: Mapping[Case, Cost], streams: LoadOutcome, wanted_streams: int
) -> Iterable[str]:
    """What stood in the way of measuring."""
    cores = psutil.cpu_count()
    for (kind, rate, tokens), cost in costs.items():
        where = f"{kind}, {rate:g}/s, {tokens} tokens"
        if not cost.sustained:
            yield f"{where}: {cores} cores for router, instances and callers did not keep up"
        if cost.failed:
            yield f"{where}: {cost.failed} of {cost.requests} failed: {cost.first_error}"
    if streams.open_most < wanted_streams:
        yield f"{streams.open_most} of {wanted_streams} answers were under way at once"
    if streams.first_error:
        yield f"answers at once: {streams.first_error}"
