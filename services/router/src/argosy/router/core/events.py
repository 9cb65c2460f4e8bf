"""The events of the router's core."""

import msgspec

from argosy.domain.core import Event, TimerFired
from argosy.domain.demand import Slo
from argosy.domain.timing import Timing


class RequestArrived(Event, frozen=True, kw_only=True, tag=True):
    """A caller wants an answer. `attempt` > 0: a direct client's re-route."""

    request_id: str
    model: str
    prompt_tokens: int
    max_tokens: int
    deadline_us: int
    attempt: int = 0
    direct: bool = False
    """The caller streams from decode itself: we shall not see the end."""
    failed_instance: str = ""
    failed_address: str = ""
    failed_reason: str = ""
    """Why it failed, as the error's reason; empty: it could not be reached."""
    blocks: list[int] = msgspec.field(default_factory=list)
    """Chained hashes of the prompt's full KV blocks."""
    tenant: str = ""
    priority: int = 0
    """Higher bands go first; below 0 is background."""
    failures: int = 0
    """Attempts in a row that brought no token; one whose instance went to sleep is none."""


class RequestEnded(Event, frozen=True, kw_only=True, tag=True):
    """The answer is complete, or nobody wants it any more."""

    request_id: str
    output_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens that needed no prefill, where the answer said so."""


class FirstTokenSeen(Event, frozen=True, kw_only=True, tag=True):
    """The answer has begun: nothing of the prompt is left to prefill."""

    request_id: str


class AttemptFailed(Event, frozen=True, kw_only=True, tag=True):
    """An instance failed a request that can be tried again."""

    request_id: str
    attempt: int
    reason: str
    """A name of errors.Reason."""
    message: str
    instance: str
    """At fault."""
    prompt_tokens: int
    """Of the next attempt: the prompt and what has been produced."""


class InstanceJoined(Event, frozen=True, kw_only=True, tag=True):
    """An instance takes requests."""

    instance: str
    epoch: str
    role: str
    """prefill, decode (which also prefills), or flexible: either, as the router likes."""
    address: str
    node: str
    model: str
    kv_total_blocks: int
    """Of each data-parallel rank."""
    block_tokens: int
    max_model_tokens: int
    max_running_requests: int
    """Of each data-parallel rank."""
    requests_max: int = 0
    """Most requests it takes at once, of all ranks: it refuses more. 0: not said."""
    announced_us: int = 0
    """When it said so; the control log tells of the past too. 0: just now."""
    dp_ranks: int = 1
    tokens_per_step: int = 8192
    rack: str = ""
    timing: Timing | None = None
    change: int = 0
    """Number of the lifecycle change that this is."""
    state: str = "active"
    """It may describe itself anew in another state, after the bus was away."""


class InstanceLeft(Event, frozen=True, kw_only=True, tag=True):
    """A process of an instance stopped or exited. An empty epoch means the one known."""

    instance: str
    epoch: str
    reason: str
    at_us: int = 0
    """When, by its node's clock. 0: just now."""


class RankLoad(msgspec.Struct, frozen=True, array_like=True):
    """What one data-parallel rank has to do."""

    running_requests: int
    waiting_requests: int
    queued_prefill_tokens: int
    kv_used_blocks: int


class LoadReported(Event, frozen=True, kw_only=True, tag=True):
    """An instance says what it has to do."""

    instance: str
    epoch: str
    ranks: list[RankLoad]
    at_us: int
    kv_held_blocks: int = 0
    step_us: int = 0
    """Of the last engine step."""
    serving: bool = True
    """False: it drains, is silent or wakes."""
    change: int = 0
    """Number of its last lifecycle change."""


class InstanceLifecycleChanged(Event, frozen=True, kw_only=True, tag=True):
    """An instance drains, is silent, wakes, or is active again."""

    instance: str
    epoch: str
    change: int
    state: str
    """A state of docs/reference/lifecycle.md."""
    cause: str
    at_us: int = 0
    """When, by its node's clock. 0: just now."""


class IdlePredicted(Event, frozen=True, kw_only=True, tag=True):
    """A prefill instance says when it will run out of work."""

    instance: str
    epoch: str
    idle_at_us: int


class KvChanged(Event, frozen=True, kw_only=True, tag=True):
    """KV blocks an instance gained and lost. `sequence` counts from 1 in each epoch."""

    instance: str
    epoch: str
    sequence: int
    stored: list[int]
    removed: list[int]
    cleared: bool = False
    """All blocks of all ranks are gone; applies before `stored`."""
    dp_rank: int = 0


class StoreSeen(Event, frozen=True, kw_only=True, tag=True):
    """A KV store reports. Its blocks come in KvChanged, with tiers for ranks."""

    store: str
    epoch: str
    address: str
    tiers: list[tuple[float, float]]
    """What fetching from each costs: milliseconds for a call, GB/s; 0: not known yet."""


class KvSnapshotTaken(Event, frozen=True, kw_only=True, tag=True):
    """All KV blocks an instance holds, by rank, its changes up to `sequence` included."""

    instance: str
    epoch: str
    sequence: int
    blocks: list[list[int]]


class KvSnapshotFailed(Event, frozen=True, kw_only=True, tag=True):
    """The instance did not give its snapshot: ask again later."""

    instance: str
    epoch: str


class PeerRouterDispatched(Event, frozen=True, kw_only=True, tag=True):
    """Another router sent a request its way."""

    router: str
    request_id: str
    prefill: str
    prefill_rank: int
    decode: str
    decode_rank: int
    prompt_tokens: int
    uncached_tokens: int
    blocks: list[int]


class PeerRouterSeen(Event, frozen=True, kw_only=True, tag=True):
    """Another router of this fleet is at work."""

    router: str


class PeerRouterEnded(Event, frozen=True, kw_only=True, tag=True):
    """Requests of another router ended."""

    router: str
    request_ids: list[str]


class BusChanged(Event, frozen=True, kw_only=True, tag=True):
    """The bus was lost or came back: silence means nothing while it is away."""

    connected: bool


class ObjectivesChanged(Event, frozen=True, kw_only=True, tag=True):
    """The fleet file of this generation was applied; these are its objectives."""

    generation: int
    slo: Slo


RouterEvent = (
    RequestArrived
    | RequestEnded
    | FirstTokenSeen
    | AttemptFailed
    | InstanceJoined
    | InstanceLeft
    | InstanceLifecycleChanged
    | LoadReported
    | IdlePredicted
    | KvChanged
    | KvSnapshotTaken
    | KvSnapshotFailed
    | StoreSeen
    | PeerRouterSeen
    | PeerRouterDispatched
    | PeerRouterEnded
    | BusChanged
    | ObjectivesChanged
    | TimerFired
)
