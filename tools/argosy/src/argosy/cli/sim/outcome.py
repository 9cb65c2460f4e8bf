"""What became of one request of a simulated trace."""

import msgspec


class Outcome(msgspec.Struct):
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
