"""What happens to the autoscaler of a fleet."""

import msgspec

from argosy.domain.core import Event, TimerFired
from argosy.domain.demand import Machine, Slo
from argosy.domain.plan_window import PlanWindow
from argosy.domain.timing import Timing

ROLES = ("prefill", "decode")


class PoolBounds(msgspec.Struct, frozen=True):
    """How many of a role there may be."""

    replicas: int
    """That exist at first."""
    low: int
    high: int


class ScalingApplied(Event, frozen=True, kw_only=True, tag=True):
    """The fleet file says how to scale. mode: advise, act, or nothing: not at all."""

    generation: int
    mode: str
    pools: dict[str, PoolBounds]
    budget: int
    """Most instances that may be at work at once, both roles."""
    silent: int
    """Of each role, kept asleep beside those awake."""
    idle_sleep_us: int
    """All sleep when nothing was asked for this long; 0: never."""
    sleep_level: str
    slo: Slo
    ratio_min: float
    ratio_max: float
    dwell_us: int
    """After an instance was added, none of its role is taken away for this long."""


class PlansChanged(Event, frozen=True, kw_only=True, tag=True):
    """These windows hold from now on, instead of all before."""

    windows: list[PlanWindow]


class MemberDecided(Event, frozen=True, kw_only=True, tag=True):
    """The operator decided that an instance shall run, or not."""

    instance: str
    role: str
    node: str
    run: bool
    generation: int = 0
    memory_bytes: int = 0
    """That it is promised while it is awake."""


class MemberJoined(Event, frozen=True, kw_only=True, tag=True):
    """An instance is up: what it is, and what it says it can do."""

    instance: str
    epoch: str
    role: str
    node: str
    rack: str
    change: int
    timing: Timing | None
    machine: Machine
    state: str = "active"
    """It may describe itself anew in another state, after the bus was away."""
    at_us: int = 0
    """When, by its node's clock. 0: just now."""


class MemberChanged(Event, frozen=True, kw_only=True, tag=True):
    """An instance is in `state` now, one of docs/reference/lifecycle.md."""

    instance: str
    epoch: str
    change: int
    """Number of the change, where its process tells of it; 0: its node agent does."""
    state: str
    took_us: int = 0
    """What sleeping or waking took, without waiting for requests to end."""
    at_us: int = 0
    """When it changed, by its node's clock: facts may overtake each other. 0: just now."""
    resident_bytes: int = 0
    level: str = ""


class NodeSeen(Event, frozen=True, kw_only=True, tag=True):
    """A node reports how much of its memory is not promised to anybody."""

    node: str
    free_bytes: int


class MeasuredStep(msgspec.Struct, frozen=True):
    """One engine step, measured."""

    us: int
    prefill_tokens: int
    decode_requests: int
    kv_share: float


class LoadSeen(Event, frozen=True, kw_only=True, tag=True):
    """An instance tells what it has to do, and what it has done since it started."""

    instance: str
    epoch: str
    running: int
    waiting: int
    queued_tokens: int
    kv_share: float
    finished: float = 0
    output_tokens: float = 0
    output_tokens_squared: float = 0
    ttft_buckets: list[int] = msgspec.field(default_factory=list)
    tpot_buckets: list[int] = msgspec.field(default_factory=list)
    steps: list[MeasuredStep] = msgspec.field(default_factory=list)


class TrafficSeen(Event, frozen=True, kw_only=True, tag=True):
    """A router tells what waits there, and what came since it started."""

    router: str
    epoch: str
    queued: int
    queued_tokens: float
    requests: float
    prompt_tokens: float
    prompt_tokens_squared: float
    cached_tokens: float
    running: int = 0
    """Requests that run, at the router and at all instances: those of direct callers too."""
    ttft_buckets: list[int] = msgspec.field(default_factory=list)
    trace: str = ""
    """Id of the report: a decision names the one that it came from."""


class SlotRecalled(Event, frozen=True, kw_only=True, tag=True):
    """History holds this slot; the oldest comes first, before anything else."""

    start_us: int
    seconds: float
    requests: float
    prompt_tokens: float
    prompt_tokens_squared: float
    cached_tokens: float
    finished: float
    output_tokens: float
    output_tokens_squared: float


class SeasonFitted(Event, frozen=True, kw_only=True, tag=True):
    """Prophet's rates ahead, one per slot from `start_us` on."""

    start_us: int
    rates: list[float]


class ScaleRecalled(Event, frozen=True, kw_only=True, tag=True):
    """The control log holds this decision: made before a restart, by this or another autoscaler."""

    generation: int
    awake: dict[str, int]
    exist: dict[str, int]
    at_us: int


class DemandSeen(Event, frozen=True, kw_only=True, tag=True):
    """Requests wait at a router, and it knows of no instance that is awake for them."""

    router: str
    queued_requests: int
    oldest_wait_us: int = 0


class ManualSleepRequested(Event, frozen=True, kw_only=True, tag=True):
    """A person asks that these instances (none named: all) sleep."""

    instances: list[str]
    level: str = ""
    """Empty: as the fleet file says."""
    drain_us: int = -1
    """-1: as usual."""


class ManualWakeRequested(Event, frozen=True, kw_only=True, tag=True):
    """A person asks that these instances (none named: all) wake."""

    instances: list[str]


class SleepDecisionRecalled(Event, frozen=True, kw_only=True, tag=True):
    """The control log holds that an instance shall sleep, or wake."""

    instance: str
    decision_sequence: int
    wake: bool
    decided_by: str
    """See state.PLAN."""


class SleepDecisionRefused(Event, frozen=True, kw_only=True, tag=True):
    """An instance's node does not let it sleep, or wake, as was decided."""

    instance: str
    decision_sequence: int
    wake: bool
    reason: str = ""


AutoscalerEvent = (
    ScalingApplied
    | PlansChanged
    | MemberDecided
    | MemberJoined
    | MemberChanged
    | LoadSeen
    | TrafficSeen
    | SlotRecalled
    | SeasonFitted
    | ScaleRecalled
    | SleepDecisionRecalled
    | SleepDecisionRefused
    | NodeSeen
    | DemandSeen
    | ManualSleepRequested
    | ManualWakeRequested
    | TimerFired
)
