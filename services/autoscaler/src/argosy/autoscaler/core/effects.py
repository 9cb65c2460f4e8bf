"""What the autoscaler's core wants done."""

import msgspec

from argosy.domain.core import Effect


class PublishSlot(Effect, frozen=True, kw_only=True, tag=True):
    """Publish and keep what was asked in a slot of time. Sums over its requests."""

    start_us: int
    seconds: float
    requests: float
    prompt_tokens: float
    prompt_tokens_squared: float
    cached_tokens: float
    finished: float
    output_tokens: float
    output_tokens_squared: float


class FitSeason(Effect, frozen=True, kw_only=True, tag=True):
    """Let Prophet look at the history, and tell what it expects (SeasonFitted)."""

    slot_us: int
    slots: int


class PoolDecision(msgspec.Struct, frozen=True):
    """One role's part of a decision."""

    role: str
    awake: int
    exist: int
    awake_before: int
    exist_before: int
    at_most: int
    stop: list[str] = []
    wake: list[str] = []
    sleep: list[str] = []


class ExpectedRates(msgspec.Struct, frozen=True):
    """What was expected of demand. Rates in requests per second."""

    rate_now: float
    rate_mean: float
    rate_upper: float
    quantile: float
    ahead_s: int
    prompt_tokens: float
    output_tokens: float
    hit_share: float
    weights: dict[str, float] = {}


class Alternative(msgspec.Struct, frozen=True):
    """A first step, and what it would have led to. cost: instance-seconds over the horizon."""

    name: str
    prefill: int
    decode: int
    silent: int
    cost: float
    ttft_p90_ms: float
    tpot_p90_ms: float
    attained: float
    rejected: str = ""


class DecideScale(Effect, frozen=True, kw_only=True, tag=True):
    """Publish how many there are to be."""

    id: str
    generation: int
    pools: list[PoolDecision]
    reason: str
    advisory: bool
    expected: ExpectedRates
    chosen: Alternative
    rejected: list[Alternative]
    constraints: list[str]
    trace: str


class DecideSleep(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that an instance shall sleep."""

    instance: str
    node: str
    decision_sequence: int
    level: str
    drain_us: int
    reason: str
    decided_by: str
    """See state.PLAN."""
    decision: str = ""
    """Id of the DecideScale that it is part of; empty: the plan did not decide it."""
    generation: int = 0


class DecideWake(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that an instance shall be awake."""

    instance: str
    node: str
    decision_sequence: int
    reason: str
    decided_by: str
    decision: str = ""
    generation: int = 0
