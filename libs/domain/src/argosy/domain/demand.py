"""Demand for a model, and what callers are promised: shared by forecast, plan and simulation."""

import msgspec


class Slo(msgspec.Struct, frozen=True):
    """Objectives that callers are promised, in milliseconds. The defaults hold wherever nobody
    sets others.
    """

    ttft_ms: float = 2000
    tpot_ms: float = 50


class Demand(msgspec.Struct, frozen=True):
    """The requests of one span of time. Lengths are in tokens; `_std` is a standard deviation."""

    rate: float
    """Requests per second."""
    prompt_tokens: float = 1024
    prompt_std: float = 0
    output_tokens: float = 128
    output_std: float = 0
    hit_share: float = 0
    """The share of prompt tokens whose KV a prefix cache holds."""

    def at(self, rate: float) -> "Demand":
        """The same mix at another rate."""
        return msgspec.structs.replace(self, rate=rate)

    def times(self, factor: float) -> "Demand":
        """The same mix at `factor` times the rate."""
        return self.at(self.rate * factor)


class Machine(msgspec.Struct, frozen=True):
    """The capacity of one instance, beside its timing."""

    kv_tokens: int = 1_048_576
    max_running: int = 256
    tokens_per_step: int = 8192
