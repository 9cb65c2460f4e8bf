"""Conversations whose every turn lands on an instance that has none of their KV.

Each turn's prompt is the last one, its answer and a new question. Between turns the
instances are restarted in good order, as they are when a fleet is scaled or moved. The
same conversations are held twice: with the fleet's KV stores, and with none configured.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from argosy.bench.fleet_variants import plan_in, read_fleet
from argosy.bench.handoff.handoff import VOCABULARY
from argosy.cli import console
from argosy.cli.fleet.show import show_up
from argosy.client import Answer, Client
from argosy.client.control import ControlClient
from argosy.launcher.launch import LaunchPlan, UpError, down
from argosy.mesh.stdio import engines_off_stdout

FIRST_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 600, 120, 64
WARM_UP_TOKENS = 128
UP_TIMEOUT_S = 300


@dataclass
class ConversationTurn:
    """One answer, and TTFT in seconds as the caller sees it."""

    answer: Answer
    ttft_s: float
    prompt_tokens: int
    reusable_tokens: int
    """Of whole blocks that the turn before has computed."""


async def run_conversations(
    fleet: Path, conversations: int, turns: int, seed: int, *, as_json: bool
) -> None:
    """Hold all conversations with and without the stores, and report."""
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="argosy-bench-") as scratch,
        engines_off_stdout(),
        Progress(console=console.err, transient=True) as progress,
    ):
        task = progress.add_task("turns", total=2 * turns * conversations)
        for name, stores in (("with", True), ("without", False)):
            planned = variant(fleet, Path(scratch) / name, stores=stores)
            found[name] = await hold(
                planned, conversations, turns, seed, lambda: progress.advance(task)
            )
    report = report_of(found["with"], found["without"])
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def variant(fleet: Path, home: Path, *, stores: bool) -> LaunchPlan:
    """The fleet in a home of its own, with an SSD tier of its own or without any store."""
    text = read_fleet(fleet)
    store = text["spec"].get("kvStore")
    if store is None:
        raise UpError(f"{fleet} has no spec.kvStore: name a fleet that has one")
    if stores and "ssd" in store:
        store["ssd"]["path"] = str(home / "kv")
    if not stores:
        del text["spec"]["kvStore"]
    return plan_in(home, text)


async def hold(
    planned: LaunchPlan, conversations: int, turns: int, seed: int, step: Any
) -> list[list[ConversationTurn]]:
    """Every conversation's turns."""
    running = await show_up(planned, UP_TIMEOUT_S)
    block_tokens = planned.fleet.spec.engine.block_tokens
    chance = random.Random(seed)  # noqa: S311 - prompts, not secrets
    prompts = [chance.choices(VOCABULARY, k=FIRST_TOKENS) for _ in range(conversations)]
    held: list[list[ConversationTurn]] = [[] for _ in prompts]
    remote = ControlClient(running)
    try:
        async with Client(running.grpc) as client:
            for number in range(turns):
                if number:
                    await restart(remote)
                await ask(client, running.model, chance.choices(VOCABULARY, k=WARM_UP_TOKENS), 0)
                for done, prompt in zip(held, prompts, strict=True):
                    known = len(prompt) - QUESTION_TOKENS - 1 if number else 0
                    reusable = known // block_tokens * block_tokens
                    done.append(await ask(client, running.model, prompt, reusable))
                    question = chance.choices(VOCABULARY, k=QUESTION_TOKENS)
                    prompt.extend([*done[-1].answer.token_ids, *question])
                    step()
    finally:
        await remote.close()
        await asyncio.to_thread(down, planned.home, running)
        shutil.rmtree(planned.home.path, ignore_errors=True)
    return held


async def restart(remote: ControlClient) -> None:
    """Every instance anew: told to end, and started again by its node agent."""
    named = {
        i.instance_id for i in (await remote.operator_status()).instances if i.role != "kvstore"
    }
    before = {p.name: p.pid for p in await remote.processes() if p.name in named}
    for pid in before.values():
        os.kill(pid, signal.SIGTERM)
    while True:
        now = {p.name: p.pid for p in await remote.processes() if p.state == "running"}
        states = {i.instance_id: i.state for i in (await remote.operator_status()).instances}
        anew = all(now.get(name, pid) != pid for name, pid in before.items())
        ready = all(state == "active" for state in states.values())
        if anew and ready and not await remote.router_trouble():
            return
        await asyncio.sleep(0.2)


async def ask(
    client: Client,
    model: str,
    prompt: list[int],
    reusable: int,
    tenant: str = "",
    answer_tokens: int = ANSWER_TOKENS,
) -> ConversationTurn:
    """One turn."""
    answer, first = Answer(), 0.0
    began = time.monotonic()
    async for chunk in client.generate(
        model,
        token_ids=prompt,
        max_tokens=answer_tokens,
        temperature=0,
        ignore_eos=True,
        tenant=tenant,
    ):
        first = first or time.monotonic()
        answer.add(chunk)
    return ConversationTurn(answer, first - began, len(prompt), reusable)


def report_of(
    stored: list[list[ConversationTurn]], plain: list[list[ConversationTurn]]
) -> dict[str, Any]:
    """Both runs, turn by turn; ratios over all turns after the first."""
    pairs = [
        (a, b)
        for ours, theirs in zip(stored, plain, strict=True)
        for a, b in zip(ours[1:], theirs[1:], strict=True)
    ]
    tokens_equal = all(
        a.answer.token_ids == b.answer.token_ids
        for ours, theirs in zip(stored, plain, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    reused = sum(a.answer.usage.cached_tokens for a, _ in pairs)
    reusable = sum(a.reusable_tokens for a, _ in pairs)
    by_turn = [
        {
            "turn": number + 1,
            "prompt_tokens": stored[0][number].prompt_tokens,
            "ttft_ms_with": round(1e3 * statistics.mean(c[number].ttft_s for c in stored), 1),
            "ttft_ms_without": round(1e3 * statistics.mean(c[number].ttft_s for c in plain), 1),
        }
        for number in range(len(stored[0]))
    ]
    ratio = sum(a.ttft_s for a, _ in pairs) / sum(b.ttft_s for _, b in pairs)
    return {
        "tokens_equal": tokens_equal,
        "ttft_ratio": round(ratio, 4),
        "hit_share": round(reused / reusable, 4),
        "reused_without": sum(b.answer.usage.cached_tokens for _, b in pairs),
        "conversations": len(stored),
        "turns": by_turn,
    }


def show(report: dict[str, Any]) -> None:
    """The report as tables."""
    table = Table(box=None)
    for title in report["turns"][0]:
        table.add_column(title, justify="right")
    for turn in report["turns"]:
        table.add_row(*(f"{value:,}" for value in turn.values()))
    console.out.print(table)
    for name in ("tokens_equal", "ttft_ratio", "hit_share"):
        console.out.print(f"{name}: {report[name]}")
