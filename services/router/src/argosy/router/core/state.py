"""All that the router's core knows."""

import msgspec

from argosy.domain.demand import Slo
from argosy.domain.lifecycle import LifecycleState
from argosy.domain.lifecycle_view import LifecycleView
from argosy.domain.timing import Timing
from argosy.router.core.prefix_index import PrefixIndex


class RouterLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the router keeps to: its settings, and the objectives of its fleet.

    The defaults here are the only ones: settings and the simulator take them from here.
    """

    queue_limit: int = 1024
    attempts_max: int = 5
    """Failed attempts in a row, without a token, after which a request fails."""
    stale_us: int = 3_000_000
    """An instance that sends no report for this long is not used."""
    ledger_us: int = 30_000_000
    """A dispatch or a report older than this says nothing about the present."""
    wait_us: int = 300_000_000
    """Longest wait for an instance, each time a request is queued."""
    policy: str = "least_cost"
    """Name of the routing policy: an entry point of the group `argosy.routing_policies`."""
    tenant_queue_limit: int = 0
    """Most waiting requests of one tenant; 0: only `queue_limit` applies."""
    ttft_limit_us: int = 0
    """A request is refused on arrival when its first token is predicted to take longer than
    this; 0: only when the prediction is past the request's own deadline."""
    slo: Slo = Slo()
    """The fleet's objectives. ObjectivesChanged replaces them."""
    index_blocks_max: int = 4_000_000
    queue_bytes_max: int = 1 << 28
    """Memory that the prompts of waiting requests may take."""


class InFlightPrefill(msgspec.Struct, array_like=True):
    """A request on its way to a rank, not in the rank's own reports yet."""

    at_us: int
    prefill_tokens: int
    kv_blocks: int


class RankLedger(msgspec.Struct):
    """One data-parallel rank in the load ledger: last report + what was sent since."""

    number: int
    holder: str
    """Its name in the prefix index."""
    running_requests: int = 0
    waiting_requests: int = 0
    queued_prefill_tokens: int = 0
    """As last reported."""
    kv_used_blocks: int = 0
    step_tokens: int = 0
    """Prompt tokens in the step under way, as far as we can know."""
    backlog_tokens: int = 0
    """Prompt tokens for later steps."""
    sent: dict[str, InFlightPrefill] = {}
    """To prefill here."""
    inbound: dict[str, tuple[int, int]] = {}
    """To decode here once another instance has prefilled: (kv_blocks, until_us)."""
    sent_blocks: int = 0
    """Sum over `sent`."""
    inbound_blocks: int = 0
    """Sum over `inbound`."""
    written_tokens: float = 0
    """New KV sent here; halves every WRITTEN_HALF_US."""
    busy_us: float = 0
    """Prefill time sent here; halves every BUSY_HALF_US."""
    written_us: int = 0

    @property
    def requests(self) -> int:
        """Requests it has, as far as we can know."""
        return self.running_requests + self.waiting_requests + len(self.sent) + len(self.inbound)

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens it has yet to compute, as far as we can know."""
        return self.step_tokens + self.backlog_tokens

    @property
    def kv_blocks(self) -> int:
        """KV blocks in use, or reserved by what was sent."""
        return self.kv_used_blocks + self.sent_blocks + self.inbound_blocks


class KnownInstance(msgspec.Struct):
    """An instance, and what it says of itself."""

    name: str
    epoch: str
    role: str
    address: str
    node: str
    rack: str
    model: str
    kv_total_blocks: int
    block_tokens: int
    max_model_tokens: int
    max_running_requests: int
    tokens_per_step: int
    timing: Timing
    ranks: list[RankLedger]
    rank_requests_max: int
    """Most requests that each rank is sent: its share of what the instance says it takes, and
    not so many that they wait long there."""
    live: bool = True
    reason: str = ""
    left_us: int = 0
    lifecycle: LifecycleView = msgspec.field(default_factory=LifecycleView)
    """May know more than this process: one that ended, or one that is not described yet."""
    seen_us: int = 0
    reported_us: int = 0
    """By the instance's own clock."""
    clock_behind_us: int | None = None
    """Least seen of (our clock on arrival - its clock in the report): skew plus transit."""
    kv_held_blocks: int = 0
    step_us: float = 0
    """Smoothed length of its steps; 0: none seen."""
    step_started_us: int = 0
    step_ends_us: int = 0
    """When the step that prefills now ends, as far as we can know."""
    busy: bool = False
    """Whether any rank has prompt tokens left, as far as we can know."""
    kv_sequence: int = 0
    """Of the last KV change taken in."""
    kv_asked: bool = False
    """A snapshot is on its way: changes wait in `kv_later`."""
    kv_retry_us: int = 0
    kv_later: list[tuple[int, int, list[int], list[int], bool]] = []
    """(sequence, dp_rank, stored, removed, cleared)"""

    @property
    def final(self) -> bool:
        """Whether this process has ended: only a new epoch brings the instance back."""
        return self.lifecycle.ended(self.epoch)

    @property
    def serving(self) -> bool:
        """Whether this process takes requests, by what was said of its lifecycle."""
        return not self.final and self.lifecycle.state is LifecycleState.ACTIVE

    @property
    def requests(self) -> int:
        """Requests it has, as far as we can know."""
        return sum(rank.requests for rank in self.ranks)


class StoreTier(msgspec.Struct):
    """One tier of a store, and what fetching from it costs; 0: not known yet."""

    holder: str
    fetch_ms: float = 0
    gb_per_s: float = 0


class KnownStore(msgspec.Struct):
    """A store of KV blocks, which instances load from."""

    name: str
    epoch: str
    address: str
    ranks: list[StoreTier]
    """Its tiers, quickest first: to what tells of KV blocks they are as an instance's ranks."""
    role: str = "kvstore"
    live: bool = True
    final: bool = False
    seen_us: int = 0
    kv_sequence: int = 0
    """This and the next three as of an instance."""
    kv_asked: bool = False
    kv_retry_us: int = 0
    kv_later: list[tuple[int, int, list[int], list[int], bool]] = []


class TrackedRequest(msgspec.Struct):
    """A request from its arrival to its end."""

    model: str
    prompt_tokens: int
    max_tokens: int
    deadline_us: int
    arrived_us: int
    blocks: list[int] = []
    tenant: str = ""
    priority: int = 0
    attempt: int = 0
    failures: int = 0
    """Attempts in a row that brought no token; one whose instance went to sleep is none."""
    direct: bool = False
    prefill: str = ""
    prefill_rank: int = 0
    decode: str = ""
    decode_rank: int = 0
    uncached_tokens: int = 0
    """As charged to its tenant at dispatch."""
    due_us: int = 0
    """Orders a tenant's waiting requests."""
    queued: bool = True
    first_token: bool = False
    """This attempt has brought one."""
    is_new: bool = False
    """Nothing was tried for it yet."""
    started: bool = False
    """Some attempt has brought a token."""
    last_failure: str = ""
    deferred_to: str = ""
    """The rank it waits for, by holder; with how many tokens; until it is decided again."""
    deferred_tokens: int = 0
    deferred_until_us: int = 0
    hits: dict[str, int] = {}
    """Blocks cached, by holder, when last looked up."""
    stored_blocks: int = 0
    """Leading blocks that stores have, when last looked up."""
    stored_ms: float = 0
    """What fetching all of them would take, without the bytes."""
    stored_ms_per_gb: float = 0
    """And for their bytes."""
    matched_us: int = 0


class Tenant(msgspec.Struct):
    """What a tenant has had."""

    served_tokens: float = 0
    """As of `served_us`; see admission."""
    served_us: int = 0
    waiting: dict[int, list[str]] = {}
    """Its waiting requests by band, in order of `due_us`."""
    waiting_tokens: dict[int, int] = {}
    """Their prompt tokens by band."""


class CandidateCache(msgspec.Struct):
    """The shortlist of a model's ranks; good for LISTED_US."""

    at_us: int
    prefill: list[str]
    """The shortlisted prefill ranks, by holder."""
    decode: list[str]
    written: float
    window_us: int


class TrafficCounters(msgspec.Struct):
    """What callers have asked for since the router started; fields as in the fact."""

    requests: int = 0
    prompt_tokens: int = 0
    prompt_tokens_squared: float = 0
    cached_tokens: int = 0
    started_requests: int = 0
    ttft_buckets: list[int] = []


class RouterState(msgspec.Struct):
    """All that the router's core knows, and the limits it keeps."""

    limits: RouterLimits
    index: PrefixIndex
    stored: PrefixIndex
    """What stores have, by tier."""
    instances: dict[str, KnownInstance] = {}
    stores: dict[str, KnownStore] = {}
    requests: dict[str, TrackedRequest] = {}
    candidate_caches: dict[str, CandidateCache] = {}
    """By model; until an instance comes or goes."""
    tenants: dict[str, Tenant] = {}
    """The one that queued a request last is last."""
    waiting_tenants: dict[int, list[str]] = {}
    """Names of the tenants with waiting requests, by band, sorted."""
    queued_requests: int = 0
    demanded_us: dict[str, int] = {}
    """By model of which no instance is awake: when its demand was last published."""
    queued_by_band: dict[int, int] = {}
    """Prompt tokens waiting."""
    freed_blocks_per_s: float = 0
    """KV blocks of answers that ended, smoothed."""
    freed_us: int = 0
    objectives_generation: int = 0
    """Generation of the fleet file that `limits.slo` is from."""
    bus_connected: bool = False
    models: dict[str, int] = {}
    """Every model ever seen here, with its context; it stays listed at zero instances."""
    refusing: dict[str, int] = {}
    """Instances that refused a request for being full, and when: until they report again."""
    early: dict[str, LifecycleView] = {}
    """Lifecycle facts of instances that have not joined yet: facts may overtake each other."""
    decision_sequence: int = 0
    """Dispatches so far."""
    peer_routers: dict[str, int] = {}
    """Other routers, and when each reported last."""
    answer_tokens: float = 256
    """Smoothed length of answers."""
    cached_share: float = 0
    """Smoothed share of prompt tokens that need no prefill."""
    arrived_requests: int = 0
    rejected_requests: int = 0
    traffic: TrafficCounters = msgspec.field(default_factory=TrafficCounters)


def new_state(limits: RouterLimits) -> RouterState:
    """A router that knows nothing yet."""
    blocks_max = limits.index_blocks_max
    return RouterState(limits, PrefixIndex(blocks_max), PrefixIndex(blocks_max))
