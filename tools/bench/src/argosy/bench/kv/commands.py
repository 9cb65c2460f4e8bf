"""The commands that measure the KV store."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.bench.options import JsonOption, PromptSeedOption, StoreFleetOption
from argosy.cli import console


def kv(
    trace: Annotated[Path, typer.Option(help="A trace in Mooncake's format, with block hashes.")],
    json: JsonOption = False,
) -> None:
    """Compare eviction policies by their hit ratio on a trace, from 0.5 to 20 M tokens.

    Example: argosy bench kv --trace conversation_trace.jsonl
    """
    from argosy.bench.kv.eviction import run_kv

    run_kv(trace, as_json=json)


def conversations(
    fleet: StoreFleetOption = Path("deploy/local/demo-store.yaml"),
    conversations: Annotated[
        int, typer.Option(min=1, help="Conversations that run at the same time.")
    ] = 3,
    turns: Annotated[int, typer.Option(min=2, help="Turns of each conversation.")] = 6,
    seed: PromptSeedOption = 1,
    json: JsonOption = False,
) -> None:
    """Compare conversations with and without a KV store, restarting instances between turns.

    Example: argosy bench conversations --json
    """
    from argosy.bench.kv.conversations import run_conversations

    console.run(run_conversations(fleet, conversations, turns, seed, as_json=json))


def kv_transfer(
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of each measurement.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the blocks' contents.")] = 1,
    json: JsonOption = False,
) -> None:
    """Compare put and get of a KV store with a bare NIXL copy, and its SSD tier with plain reads.

    Example: argosy bench kv-transfer --json
    """
    from argosy.bench.kv.kv_transfer import run_kv_transfer

    console.run(run_kv_transfer(rounds, seed, as_json=json))


def kv_faults(
    requests: Annotated[int, typer.Option(min=10, help="Requests to each fleet.")] = 100,
    seed: PromptSeedOption = 1,
    json: JsonOption = False,
) -> None:
    """Measure what callers notice when the KV store is stopped, killed or full.

    Example: argosy bench kv-faults --json
    """
    from argosy.bench.kv.kv_faults import run_kv_faults

    console.run(run_kv_faults(requests, seed, as_json=json))
