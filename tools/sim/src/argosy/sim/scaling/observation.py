"""What a scaling policy sees, and what it may wish: the same for every policy and simulation."""

from typing import Protocol

import msgspec

ROLES = ("prefill", "decode")


class Observation(msgspec.Struct, frozen=True):
    """What a scraper would have at a tick. Sums are over what came since the last tick."""

    now_s: float
    arrived_requests: int
    prompt_tokens: float
    """Of those that arrived."""
    prompt_tokens_squared: float
    output_tokens: float
    """Of those that finished."""
    output_tokens_squared: float
    finished_requests: int
    cached_tokens: float
    """Of prompts that finished: those whose KV was there already."""
    queued_requests: int
    """Waiting for prefill now."""
    running_requests: int
    """In decode now."""
    ttft_p90_ms: float
    """Of the last minute, as is tpot_p90_ms; 0 when there was nothing."""
    tpot_p90_ms: float
    kv_share: float
    """KV in use, mean of ready decode instances."""
    ready: dict[str, int]
    """Instances by role."""
    warming: dict[str, int]
    draining: dict[str, int] = {}
    """Told to go, and finishing what they have."""
    late_ttft: float = 0
    """Share of the last minute's requests beyond the SLO, as is late_tpot."""
    late_tpot: float = 0
    waiting_decode: int = 0
    """Prefilled and waiting for room in decode now."""
    prefilling_requests: int = 0
    """Being prefilled now, beside those queued."""
    prefilled_p90_ms: float = 0
    """The part of TTFT until a prompt's KV is there for decode, of the last minute."""
    joined_p90_ms: float = 0
    """The part of TTFT from then on: room in decode, and its first step."""


class ScalingPolicy(Protocol):
    """Decides how many instances there shall be. Deterministic; asked in order of time."""

    name: str
    every_s: float
    """Between two decisions."""

    def decide(self, observation: Observation) -> dict[str, int]:
        """Wanted instances by role; the simulation starts or drains the difference."""
        ...
