"""All that the autoscaler's core knows."""

import msgspec

from argosy.autoscaler.core import events
from argosy.autoscaler.core.forecast.forecaster import ForecastState
from argosy.domain.demand import Machine
from argosy.domain.lifecycle_view import LifecycleView
from argosy.domain.plan_window import PlanWindow
from argosy.domain.timing import Timing

FAR_PAST_US = -(1 << 60)


class ScalerLimits(msgspec.Struct, frozen=True):
    """Settings of the service (see settings.py)."""

    tick_us: int = 5_000_000
    slot_us: int = 60_000_000
    plan_slots: int = 240
    stale_us: int = 15_000_000
    decay_us: int = 600_000_000
    manual_hold_us: int = 600_000_000
    season_us: int = 6 * 3600 * 1_000_000
    miss_price: float = 10.0
    allowed_miss: float = 0.01


PLAN, RULE, MANUAL = "plan", "rule", "manual"
"""What decided last that an instance sleeps or wakes: the plan, the rules for idle fleets and for
demand, or a person."""


class Member(msgspec.Struct):
    """An instance that exists, or is to."""

    role: str
    node: str = ""
    rack: str = ""
    generation: int = 0
    """Of the operator's last decision that it shall run."""
    memory_bytes: int = 0
    """That it is promised while it is awake."""
    wanted: bool = True
    lifecycle: LifecycleView = msgspec.field(default_factory=LifecycleView)
    state: str = "pending"
    since_us: int = 0
    """When it came to be in that state."""
    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    kv_share: float = 0
    heard_us: int = FAR_PAST_US
    """When it last reported its load."""
    decision_sequence: int = 0
    """Of the last decision that it sleep or wake. It only grows: of two decisions the greater
    holds, in whatever order they arrive."""
    told_to_sleep: bool = False
    """That decision was to sleep."""
    decided_by: str = ""
    """PLAN, RULE or MANUAL; empty: nothing was decided yet."""
    manual_until_us: int = 0
    """The plan leaves what a person decided alone until then."""
    refused: str = ""
    """Why its node did not let it do what was decided last; empty: it did."""
    refused_us: int = FAR_PAST_US
    level: str = ""
    """Where its weights are while it sleeps: dram or disk."""
    resident_bytes: int = 0
    """Memory that it holds, as it reported when it last slept or woke."""
    slept_took_us: int = 0
    woke_took_us: int = 0
    """How long the steps of its last sleep and wake took, without the drain."""
    sums: tuple[float, float, float] = (0, 0, 0)
    """Finished requests, their output tokens, and squares of those, as last reported."""

    @property
    def epoch(self) -> str:
        """Of its newest process."""
        return self.lifecycle.newest.epoch


class SleepState(msgspec.Struct):
    """What the rules for idle fleets and for demand remember of the fleet as a whole."""

    slept_us: int = 0
    """When the fleet was last put to sleep; 0: it is not asleep."""
    woken_us: int = 0
    """When instances were last woken for demand."""
    up_us: int = FAR_PAST_US
    """When an instance last became active."""
    sleep_refused_us: int = FAR_PAST_US
    """When a node last refused to let an instance sleep."""
    patience: float = 1.0
    """How many break-even times the fleet has to be idle before it sleeps."""


class RouterSeen(msgspec.Struct):
    """What a router last reported: sums since its start."""

    epoch: str
    heard_us: int
    sums: tuple[float, float, float, float]
    """Requests, prompt tokens, squares of those, cached tokens."""
    queued: int = 0


class Sums(msgspec.Struct):
    """Of requests that came, and of those that finished."""

    requests: float = 0.0
    prompt_tokens: float = 0.0
    prompt_tokens_squared: float = 0.0
    cached_tokens: float = 0.0
    finished: float = 0.0
    output_tokens: float = 0.0
    output_tokens_squared: float = 0.0

    def add(self, more: "Sums") -> None:
        """Count these too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    def fade(self, share: float) -> None:
        """Let all weigh so much less."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) * share)


class StepTimeFit(msgspec.Struct):
    """Decayed normal equations of one role's steps: times against what they computed."""

    xx: list[list[float]]
    xy: list[float]
    seen: float = 0


class Baseline(msgspec.Struct):
    """What one instance can do: as announced, corrected by its steps."""

    announced: Timing | None = None
    timing: Timing | None = None
    machine: Machine = Machine()
    prefill: StepTimeFit | None = None
    decode: StepTimeFit | None = None
    wake_us: int = 5_000_000
    """What waking takes, by what it took; and starting, decision to ready."""
    start_us: int = 120_000_000


class SloCorrection(msgspec.Struct):
    """How one role kept the SLO in this slot, and what that taught before."""

    factor: float = 1.0
    """On the rate: the model is asked for so much more than comes."""
    counted: float = 0
    late: float = 0
    ready: int = 0
    """At the slot's start."""
    still: int = 0
    """Slots for which it has been that many."""
    backlog: int = 0
    """What waited at routers at the slot's start."""
    late_before: float = 0
    """Share of the slot before."""


class Decided(msgspec.Struct):
    """The decision that holds."""

    generation: int = 0
    at_us: int = 0
    awake: dict[str, int] = {}
    exist: dict[str, int] = {}
    raised_us: dict[str, int] = {}
    """When an instance of the role was last added."""
    lowered_us: dict[str, int] = {}
    """When one was last taken away."""


class AutoscalerState(msgspec.Struct):
    """All that the autoscaler's core knows."""

    limits: ScalerLimits = msgspec.field(default_factory=ScalerLimits)
    scaling: events.ScalingApplied | None = None
    windows: list[PlanWindow] = []
    members: dict[str, Member] = {}
    free_bytes: dict[str, int] = {}
    """By node, memory that is not promised to anybody, as last reported."""
    sleep: SleepState = msgspec.field(default_factory=SleepState)
    routers: dict[str, RouterSeen] = {}
    baselines: dict[str, Baseline] = {}
    mix: Sums = msgspec.field(default_factory=Sums)
    """What requests are like: the older, the less they weigh."""
    slot_start_us: int = 0
    slot: Sums = msgspec.field(default_factory=Sums)
    recent: list[tuple[int, float]] = []
    """(time, requests) of the last reports, for what the rate is just now."""
    forecast: ForecastState = msgspec.field(default_factory=ForecastState)
    corrections: dict[str, SloCorrection] = {}
    relayed: bool = False
    """A router reports TTFT: what decode instances report of the same requests is not counted."""
    late_counts: dict[str, list[int]] = {}
    """Latency buckets as each source reported them last."""
    decided: Decided = msgspec.field(default_factory=Decided)
    heard_us: int = FAR_PAST_US
    """When a router was last heard."""
    since_us: int = 0
    """When the first router was heard."""
    busy_us: int = FAR_PAST_US
    """When there was last something to do for callers."""
    ticked_us: int = 0
    planned_us: int = FAR_PAST_US
    fitted_us: int = FAR_PAST_US
    clipped: float = 0
    """Requests not believed."""
    trace: str = ""
    """Of the last report of load."""
