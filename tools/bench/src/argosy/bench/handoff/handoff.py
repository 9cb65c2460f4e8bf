"""What Argosy adds to a handoff: the same prompts, to both, in turn."""

import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track
from rich.table import Table

from argosy.bench.handoff.bare_vllm import BarePair
from argosy.cli import console
from argosy.cli.fleet.show import show_up
from argosy.client import Answer, Client
from argosy.engine.settings import EngineSettings
from argosy.launcher.launch import LaunchPlan, UpError, down, plan
from argosy.mesh.stdio import engines_off_stdout

LENGTHS = (96, 200, 384, 512, 768, 1024, 1400)
VOCABULARY = range(1000, 40_000)
ANSWER_TOKENS = 8
WARM_UP_TOKENS = 128
UP_TIMEOUT_S = 300


@dataclass
class Pair:
    """One prompt, answered by both."""

    argosy: Answer
    argosy_s: float
    bare_tokens: list[int]
    bare_s: float


async def run_handoff(fleet: Path, requests: int, seed: int, *, as_json: bool) -> None:
    """Bring both up, send every prompt to both, and report."""
    with tempfile.TemporaryDirectory(prefix="argosy-bench-") as home, engines_off_stdout():
        planned = plan(fleet, Path(home), 0, 0)
        if planned.fleet.spec.engine.kind != "vllm":
            raise UpError("the baseline is a bare pair of vLLM engines: name a vllm fleet")
        running = await show_up(planned, UP_TIMEOUT_S)
        bare = BarePair(bare_settings(planned, "0"), bare_settings(planned, "1"))
        try:
            with console.err.status("loading the bare pair"):
                await bare.start()
            async with Client(running.grpc) as client:
                pairs = await interleave(client, bare, running.model, requests, seed)
        finally:
            await bare.stop()
            down(planned.home, running)
    report = report_of(pairs)
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def bare_settings(planned: LaunchPlan, core: str) -> EngineSettings:
    """The very settings an instance of the fleet has, pinned as the node agent pins it."""
    fields = planned.fleet.instance_settings(planned.base_dir)
    return EngineSettings.model_validate({**fields, "cpu_cores": core})


async def interleave(
    client: Client, bare: BarePair, model: str, requests: int, seed: int
) -> list[Pair]:
    """Every prompt to both, the first of a pair alternating; nobody has seen it before."""
    chance = random.Random(seed)  # noqa: S311 - prompts, not secrets
    pairs = []
    warm_up = chance.choices(VOCABULARY, k=WARM_UP_TOKENS)
    await by_argosy(client, model, warm_up)
    await bare.answer("warm-up", warm_up, ANSWER_TOKENS)
    steps = track(range(requests), "measuring", console=console.err, transient=True)
    for number in steps:
        prompt = chance.choices(VOCABULARY, k=LENGTHS[number % len(LENGTHS)])
        if number % 2:
            answer, argosy_s = await by_argosy(client, model, prompt)
            tokens, bare_s = await bare.answer(str(number), prompt, ANSWER_TOKENS)
        else:
            tokens, bare_s = await bare.answer(str(number), prompt, ANSWER_TOKENS)
            answer, argosy_s = await by_argosy(client, model, prompt)
        pairs.append(Pair(answer, argosy_s, tokens, bare_s))
    return pairs


async def by_argosy(client: Client, model: str, prompt: list[int]) -> tuple[Answer, float]:
    """The whole answer, and TTFT in seconds as the caller sees it."""
    answer, first = Answer(), 0.0
    began = time.monotonic()
    async for chunk in client.generate(
        model, token_ids=prompt, max_tokens=ANSWER_TOKENS, temperature=0, ignore_eos=True
    ):
        first = first or time.monotonic()
        answer.add(chunk)
    return answer, first - began


def report_of(pairs: list[Pair]) -> dict[str, Any]:
    """Medians, and the median over pairs of the share that Argosy adds."""
    shares = [(pair.argosy_s - pair.bare_s) / pair.bare_s for pair in pairs]
    added = [(pair.argosy_s - pair.bare_s) * 1e3 for pair in pairs]
    argosy = statistics.median(pair.argosy_s for pair in pairs) * 1e3
    bare = statistics.median(pair.bare_s for pair in pairs) * 1e3
    return {
        "tokens_equal": all(p.argosy.token_ids == p.bare_tokens for p in pairs),
        "requests": len(pairs),
        "disaggregated": sum(p.argosy.timing.disaggregated for p in pairs),
        "nixl_bytes": sum(p.argosy.timing.transferred_bytes for p in pairs),
        "ttft_ms": {
            "argosy_p50": round(argosy, 1),
            "bare_p50": round(bare, 1),
            "added_p50": round(statistics.median(added), 1),
        },
        "ttft_overhead_share": round(statistics.median(shares), 4),
    }


def show(report: dict[str, Any]) -> None:
    """The report as a table."""
    table = Table(box=None, show_header=False)
    for name, value in report.items():
        table.add_row(name, str(value))
    console.out.print(table)
