"""All that the router's core knows."""

import msgspec


class Instance(msgspec.Struct):
    """An instance and its place in the load ledger.

    Load = what it last reported + what was dispatched to it since. `dispatched` maps a
    request to (when, tokens); a report older than a dispatch does not cover it.
    """

    epoch: str
    role: str
    address: str
    node: str
    model: str
    kv_total_blocks: int
    block_tokens: int
    max_model_tokens: int
    max_running_requests: int
    live: bool = True
    reason: str = ""
    left_us: int = 0
    final: bool = False
    """It said goodbye: only a new epoch brings it back."""
    seen_us: int = 0
    reported_us: int = 0
    """By the instance's own clock."""
    clock_behind_us: int | None = None
    """Least seen of (our clock on arrival - its clock in the report): skew plus transit."""
    running_requests: int = 0
    waiting_requests: int = 0
    queued_prefill_tokens: int = 0
    kv_used_blocks: int = 0
    kv_held_blocks: int = 0
    idle_at_us: int = 0
    dispatched: dict[str, tuple[int, int]] = {}

    @property
    def requests(self) -> int:
        """Requests it has, as far as we can know."""
        return self.running_requests + self.waiting_requests + len(self.dispatched)

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens it has yet to compute, as far as we can know."""
        return self.queued_prefill_tokens + sum(tokens for _, tokens in self.dispatched.values())


class Request(msgspec.Struct):
    """A request from its arrival to its end."""

    model: str
    prompt_tokens: int
    max_tokens: int
    deadline_us: int
    arrived_us: int
    attempt: int = 0
    direct: bool = False
    prefill: str = ""
    decode: str = ""
    queued: bool = True
    last_failure: str = ""


class RouterState(msgspec.Struct):
    """All that the router's core knows, and the limits it keeps."""

    queue_limit: int
    attempts_max: int
    disaggregate_min_tokens: int
    stale_us: int
    ledger_us: int
    wait_us: int
    """Longest wait for an instance, each time a request is queued."""
    instances: dict[str, Instance] = {}
    requests: dict[str, Request] = {}
    queue: list[str] = []
    """Waiting for an instance, in order of arrival."""
    bus_connected: bool = False
    models: dict[str, int] = {}
    """Every model ever seen here, with its context; it stays listed at zero instances."""
    gone: dict[str, list[str]] = {}
    """The last epochs of each instance that said goodbye: the news may come before it joins."""
