"""What became of one request of a simulated trace."""

from dataclasses import dataclass, field

import msgspec


class RequestOutcome(msgspec.Struct):
    """One request, in virtual microseconds since the trace began."""

    arrived_us: int
    prompt_tokens: int
    output_tokens: int
    """Produced: fewer than asked for where the request did not complete."""
    cached_tokens: int
    """Of the prompt: those whose KV was there already."""
    first_us: int | None
    ended_us: int | None
    rejected: bool = False
    instance: str = ""


@dataclass
class SleepRecord:
    """One sleep or wake: when it was over, what it took, and its steps."""

    name: str
    fact: str
    at_us: int
    took_us: int
    steps_us: list[tuple[str, int]] = field(default_factory=list)
