"""A short conversation, one turn of which loses its decode instance half way."""

import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from argosy.client import Answer, Client
from argosy.client.control import ControlClient

SYSTEM = (
    "You are the librarian of a small town. You know every book, the authors, the shelves and "
    "the opening hours, and you answer visitors in two or three plain, friendly sentences. "
    "When you do not know something you say so, and you never invent titles of books."
)
QUESTIONS = (
    "Good morning! What is a novel?",
    "And what makes a good story?",
    "What should I read first?",
)
LAST_QUESTION = "Tell me how a book is made, from the first idea to the shelf, step by step."
ANSWER_TOKENS = 32
LAST_ANSWER_TOKENS = 40
KILL_AFTER_TOKENS = 8

Message = dict[str, str]
Say = Callable[[str], None]


@dataclass
class DemoTurn:
    """One question and what came of it."""

    question: str
    answer: Answer
    ttft_ms: float
    tpot_ms: float
    longest_gap_ms: float
    trace_id: str


async def ask(
    client: Client,
    model: str,
    messages: list[Message],
    max_tokens: int,
    say: Say,
    after: Mapping[int, Callable[[], Awaitable[None]]] | None = None,
) -> DemoTurn:
    """Stream one answer; `after` holds what to do once this many tokens have arrived."""
    answer, due = Answer(), dict(after or {})
    began = last = time.monotonic()
    first, gap = 0.0, 0.0
    async for chunk in client.generate(
        model, messages=messages, max_tokens=max_tokens, temperature=0
    ):
        now = time.monotonic()
        first, gap, last = first or now, max(gap, now - last if first else 0), now
        answer.add(chunk)
        say(chunk.text)
        for tokens in [count for count in due if len(answer.token_ids) >= count]:
            await due.pop(tokens)()
    tpot = (last - first) / max(1, len(answer.token_ids) - 1)
    return DemoTurn(
        messages[-1]["content"],
        answer,
        (first - began) * 1e3,
        tpot * 1e3,
        gap * 1e3,
        client.last_trace_id,
    )


async def converse(client: Client, model: str, say: Say) -> tuple[list[DemoTurn], list[Message]]:
    """QUESTIONS in turn; returns the turns and the conversation so far."""
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    turns = []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        say(f"\n> {question}\n")
        turns.append(await ask(client, model, messages, ANSWER_TOKENS, say))
        messages.append({"role": "assistant", "content": turns[-1].answer.text})
    return turns, messages


async def lose_decode(
    client: Client, remote: ControlClient, model: str, messages: list[Message], say: Say
) -> tuple[DemoTurn, DemoTurn]:
    """LAST_QUESTION twice: once undisturbed, once with decode killed in the middle."""
    messages = [*messages, {"role": "user", "content": LAST_QUESTION}]
    say(f"\n> {LAST_QUESTION}\n")
    undisturbed = await ask(client, model, messages, LAST_ANSWER_TOKENS, say)

    async def kill() -> None:
        for process in await remote.processes():
            if process.name == "decode-0" and process.pid:
                say(f" [kill -9 {process.name}] ")
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    say(f"\n> {LAST_QUESTION} (again)\n")
    after = {KILL_AFTER_TOKENS: kill}
    survivor = await ask(client, model, messages, LAST_ANSWER_TOKENS, say, after)
    return undisturbed, survivor
