"""Sleep and wake of a profile in virtual time: where the seconds go.

One prefill and one decode instance serve a conversation of two turns with a pause between, in
which they go to sleep: the cores are those of a live fleet, the steps take what the profile says.
"""

import json
from typing import Any

from rich.table import Table

from argosy.cli import console
from argosy.engine.profile import Profile
from argosy.engine.profile_files import load_profile
from argosy.sim.fleet.simulation import simulate
from argosy.sim.fleet.spec import SimFleet
from argosy.sim.reports.report import rest_of, ttft_ms
from argosy.sim.traces.trace import TraceRequest

IDLE_S, PAUSE_S = 30, 120
TURN_TOKENS, ANSWER_TOKENS, BLOCK_TOKENS = 4096, 128, 64
LEVELS = ("dram", "disk")


def run_sleep_sim(profile_name: str, *, as_json: bool) -> None:
    """Measure both levels, and report."""
    profile = load_profile(profile_name)
    levels = {level: measure(profile, level) for level in LEVELS}
    report = {
        "profile": profile_name,
        "sleep_s": levels["dram"]["longest_sleep_s"],
        "wake_s": levels["dram"]["longest_wake_s"],
        "wake_to_first_token_s": levels["dram"]["wake_to_first_token_s"],
        "cold_start_s": round(profile.load_ms / 1e3 + levels["dram"]["unslept_ttft_s"], 3),
        "wake_speedup": round(
            (profile.load_ms / 1e3 + levels["dram"]["unslept_ttft_s"])
            / levels["dram"]["wake_to_first_token_s"],
            1,
        ),
        "levels": levels,
    }
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def measure(profile: Profile, level: str) -> dict[str, Any]:
    """Two turns with a sleep between them."""
    blocks = TURN_TOKENS // BLOCK_TOKENS
    trace = [
        TraceRequest(0, TURN_TOKENS, ANSWER_TOKENS, list(range(blocks))),
        TraceRequest(round(PAUSE_S * 1e6), 2 * TURN_TOKENS, ANSWER_TOKENS, list(range(2 * blocks))),
    ]
    fleet = SimFleet(
        prefill=1,
        decode=1,
        profile=profile,
        block_tokens=BLOCK_TOKENS,
        store_dram_tokens=1 << 20,
        idle_sleep_us=round(IDLE_S * 1e6),
        sleep_level=level,
    )
    simulated = simulate(trace, fleet, lambda ended, total: None)
    found = rest_of(simulated.sleep_records)
    first, second = simulated.outcomes
    found["unslept_ttft_s"] = round(ttft_ms(first) / 1e3, 3)
    found["wake_to_first_token_s"] = round(ttft_ms(second) / 1e3, 3)
    found["context_hit_share"] = round(second.cached_tokens / TURN_TOKENS, 4)
    return found


def show(report: dict[str, Any]) -> None:
    """Where the seconds go, at each level."""
    table = Table(box=None, title=f"{report['profile']}: seconds", title_justify="left")
    for title in ("weights stay", "", "in all", "of which"):
        table.add_column(title)
    for level, found in report["levels"].items():
        for way in ("sleep", "wake"):
            steps = (f"{name} {s:.2f}" for name, s in found[f"{way}_steps_s"].items() if s)
            table.add_row(level, way, f"{found[f'longest_{way}_s']:.2f}", ", ".join(steps))
        first = f"{found['wake_to_first_token_s']:.2f}"
        hit = f"{found['context_hit_share']:.0%} of the turn before came from the store"
        table.add_row(level, "wake to first token", first, hit)
    console.out.print(table)
    console.out.print(
        f"from nothing {report['cold_start_s']:.0f} s: waking is {report['wake_speedup']} times "
        "quicker"
    )
