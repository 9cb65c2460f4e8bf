"""Talking to a fleet from the terminal; every call leaves a trace."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from argosy.cli import console
from argosy.client import Answer, Client
from argosy.launcher.home import FleetHome, RunningFleet
from argosy.mesh.telemetry import start_telemetry


@asynccontextmanager
async def traced_client(
    folder: FleetHome, running: RunningFleet, *, direct: bool = False
) -> AsyncIterator[Client]:
    """A client whose spans join the fleet's."""
    telemetry = start_telemetry("client", "client", traces_dir=folder.path / "traces")
    try:
        async with Client(running.grpc, direct=direct, tracer=telemetry.tracer) as client:
            yield client
    finally:
        telemetry.close()


async def continue_text(
    folder: FleetHome,
    running: RunningFleet,
    text: str,
    sampling: dict[str, Any],
    *,
    direct: bool,
    as_json: bool,
) -> None:
    """Print the continuation as it comes, or whole as JSON."""
    answer = Answer()
    began = time.monotonic()
    first_s = 0.0
    async with traced_client(folder, running, direct=direct) as client:
        async for chunk in client.generate(running.model, text=text, **sampling):
            first_s = first_s or time.monotonic() - began
            answer.add(chunk)
            if not as_json:
                console.out.print(chunk.text, end="", markup=False, soft_wrap=True)
        trace_id = client.last_trace_id
    if not as_json:
        console.out.print()
        console.err.print(f"[dim]TTFT {first_s * 1e3:.0f} ms · argosy trace {trace_id[:8]}[/]")
        return
    report = {
        "text": answer.text,
        "token_ids": answer.token_ids,
        "finish": answer.finish_reason,
        "prompt_tokens": answer.usage.prompt_tokens,
        "ttft_ms": round(first_s * 1e3, 1),
        "disaggregated": answer.timing.disaggregated,
        "trace_id": trace_id,
    }
    print(json.dumps(report))


async def converse(
    folder: FleetHome, running: RunningFleet, system: str, sampling: dict[str, Any]
) -> None:
    """Read a line, stream an answer, until an empty line."""
    messages = [{"role": "system", "content": system}] if system else []
    console.err.print(f"[dim]{running.model}; an empty line ends the conversation[/]")
    async with traced_client(folder, running) as client:
        while line := read_line():
            messages.append({"role": "user", "content": line})
            answer = Answer()
            async for chunk in client.generate(running.model, messages=messages, **sampling):
                answer.add(chunk)
                console.out.print(chunk.text, end="", markup=False, soft_wrap=True)
            console.out.print()
            messages.append({"role": "assistant", "content": answer.text})


def read_line() -> str:
    """One line from the user; empty at the end of input."""
    try:
        return console.out.input("[bold]> [/]").strip()
    except EOFError:
        return ""
