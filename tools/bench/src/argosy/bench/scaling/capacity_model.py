"""The autoscaler's fast model against the simulator: the same demand, both answers.

Traffic: Poisson arrivals; lengths are the quantiles of a lognormal, shuffled, so that a run
of a few thousand requests has the percentiles it is meant to have, or a trace's own in its
order of arrival. Requests of the first moments are not counted: the fleet is still filling up.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, pstdev
from typing import Any

from argosy.autoscaler.core.capacity.model import CapacityScore, decode_need, score
from argosy.domain.demand import Demand, Machine, Slo
from argosy.engine.profile import Profile
from argosy.engine.profile_files import load_profile
from argosy.sim.fleet.simulation import simulate
from argosy.sim.fleet.spec import SimFleet
from argosy.sim.reports.report import itl_ms, ttft_ms
from argosy.sim.traces.trace import TraceRequest, read_trace

BLOCK_TOKENS = 64
PREFILLS = (1, 2, 4, 8, 16)
USES = (0.3, 0.5, 0.7, 0.9)
LENGTHS = {
    "short": (300.0, 300.0, 150.0, 150.0),
    "medium": (1155.0, 1155.0, 211.0, 211.0),
    "long": (8000.0, 8000.0, 500.0, 500.0),
}
"""Prompt, its standard deviation, answer, its own."""
SLOS = {"dynamo-mocker": Slo(2000, 50), "smollm2-135m-cpu": Slo(20_000, 150)}
"""Within reach of each profile; the router keeps to the time per token where it can."""
WARM_UP_SHARE = 0.1
WARM_UP_ANSWERS = 4
"""And as many mean answers: by then about as many end as begin."""
REQUESTS_MAX = 12_000
DECODE_USE_MAX = 0.8
"""Where decode is full, requests wait for it, and TTFT says nothing of prefill."""


@dataclass(frozen=True)
class Case:
    """A fleet and what it is asked. prefill 0: every instance does both."""

    profile: str
    prefill: int
    decode: int
    demand: Demand
    lengths: str = ""
    """What to call them."""
    requests: int = 2000
    """At least; more where the fleet takes longer to fill up."""
    seeds: tuple[int, ...] = (1,)
    trace: Path | None = None
    """Whose lengths to take."""


def grid(
    profiles: Iterable[str] = tuple(SLOS),
    prefills: Iterable[int] = PREFILLS,
    uses: Iterable[float] = USES,
    lengths: Iterable[str] = tuple(LENGTHS),
) -> list[Case]:
    """Prefill counts, uses of what they can do, and lengths; decode as many as have headroom."""
    found = []
    prefills, uses, lengths = list(prefills), list(uses), list(lengths)
    for name in profiles:
        profile, slo = load_profile(name), SLOS[name]
        machine = machine_of(profile)
        for kind in lengths:
            for prefill in prefills:
                for use in uses:
                    rate = use * prefill * capacity_tokens_per_s(profile) / LENGTHS[kind][0]
                    demand = Demand(rate, *LENGTHS[kind])
                    decode = decode_need(demand, profile, machine, slo, 0.01)
                    while (
                        score(demand, prefill, decode, profile, machine, slo).decode_use
                        > DECODE_USE_MAX
                    ):
                        decode += 1
                    found.append(Case(name, prefill, decode, demand, kind))
    return found


def capacity_tokens_per_s(profile: Profile) -> float:
    """Prompt tokens per second of one instance, in full steps."""
    tokens = profile.tokens_per_step
    return tokens / profile.prefill_step_ms(tokens) * 1e3


def machine_of(profile: Profile) -> Machine:
    """An instance as `argosy sim` has it."""
    return Machine(SimFleet().kv_tokens, Machine().max_running, profile.tokens_per_step)


def compare(
    cases: Sequence[Case], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[dict[str, Any]]:
    """Both answers for every case, in milliseconds; error: of the model's, relative."""
    found = []
    for number, case in enumerate(cases):
        found.append(compare_one(case))
        progress(number + 1, len(cases))
    return found


def compare_one(case: Case) -> dict[str, Any]:
    """See compare."""
    profile, slo = load_profile(case.profile), SLOS.get(case.profile, Slo())
    machine = machine_of(profile)
    demand = case.demand
    began = time.perf_counter()
    modelled = score(demand, case.prefill, case.decode, profile, machine, slo)
    model_us = (time.perf_counter() - began) * 1e6
    ttfts: list[float] = []
    tpots: list[float] = []
    p90s = []
    for seed in case.seeds:
        waits, paces = run(case, profile, slo, modelled, seed)
        p90s.append(quantile(sorted(waits), 0.9))
        ttfts += waits
        tpots += paces
    ttfts.sort()
    tpots.sort()
    simulated = {f"ttft_p{p}_ms": quantile(ttfts, p / 100) for p in (50, 90, 99)}
    simulated |= {f"tpot_p{p}_ms": quantile(tpots, p / 100) for p in (50, 90)}
    return {
        "profile": case.profile,
        "prefill": case.prefill,
        "decode": case.decode,
        "rate": demand.rate,
        "lengths": case.lengths,
        "requests": len(ttfts),
        "prefill_use": modelled.prefill_use,
        "decode_use": modelled.decode_use,
        **{f"sim_{name}": value for name, value in simulated.items()},
        **{f"model_{name}": getattr(modelled, name) for name in simulated},
        "error": modelled.ttft_p90_ms / simulated["ttft_p90_ms"] - 1,
        "tpot_error": modelled.tpot_p50_ms / simulated["tpot_p50_ms"] - 1,
        "sim_p90_noise": pstdev(p90s) / fmean(p90s) if len(p90s) > 1 else None,
        "model_us": model_us,
    }


def run(
    case: Case, profile: Profile, slo: Slo, modelled: CapacityScore, seed: int
) -> tuple[list[float], list[float]]:
    """TTFT and TPOT of each request that counts, simulated."""
    warm_up_s = WARM_UP_ANSWERS * case.demand.output_tokens * modelled.tpot_p50_ms / 1e3
    requests = max(case.requests, round(3 * warm_up_s * case.demand.rate))
    trace = traffic(case, min(REQUESTS_MAX, requests), seed)
    fleet = SimFleet(
        aggregated=0 if case.prefill else case.decode,
        prefill=case.prefill,
        decode=case.decode if case.prefill else 0,
        profile=profile,
        block_tokens=BLOCK_TOKENS,
        slo=slo,
        seed=seed,
    )
    outcomes = simulate(trace, fleet, lambda ended, total: None).outcomes
    first = round(min(warm_up_s * 1e6, trace[-1].arrived_us / 3))
    first = max(first, trace[int(len(trace) * WARM_UP_SHARE)].arrived_us)
    counted = [outcome for outcome in outcomes if outcome.arrived_us >= first]
    gaps = (itl_ms(outcome) for outcome in counted)
    return [ttft_ms(outcome) for outcome in counted], [gap for gap in gaps if gap is not None]


def traffic(case: Case, requests: int, seed: int) -> list[TraceRequest]:
    """Arrivals at exactly the demanded mean rate. A prefix is the share that is to be cached."""
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    demand = case.demand
    if case.trace is not None:
        taken = read_trace(case.trace, None, BLOCK_TOKENS)[:requests]
        pairs = [(request.prompt_tokens, request.output_tokens) for request in taken]
    else:
        prompts = drawn(demand.prompt_tokens, demand.prompt_std, requests, chance)
        answers = drawn(demand.output_tokens, demand.output_std, requests, chance)
        pairs = list(zip(prompts, answers, strict=True))
    gaps = [chance.expovariate(1.0) for _ in pairs]
    scale = len(pairs) / demand.rate / math.fsum(gaps)
    at_s, found, used = 0.0, [], 1 << 32
    for (prompt, answer), gap in zip(pairs, gaps, strict=True):
        at_s += gap * scale
        blocks = prompt // BLOCK_TOKENS if demand.hit_share else 0
        common = round(blocks * demand.hit_share)
        own = range(used, used + blocks - common)
        used += len(own)
        found.append(TraceRequest(round(at_s * 1e6), prompt, answer, [*range(common), *own]))
    return found


def drawn(mean: float, std: float, count: int, chance: random.Random) -> list[int]:
    """Lengths: a lognormal's quantiles in the middle of `count` equal shares, shuffled."""
    variance = math.log1p((std / mean) ** 2)
    lengths = NormalDist(math.log(mean) - variance / 2, max(1e-9, math.sqrt(variance)))
    found = [max(1, round(math.exp(lengths.inv_cdf((n + 0.5) / count)))) for n in range(count)]
    chance.shuffle(found)
    return found


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of values in order, none if there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan
