"""What is simulated: the fleet, its faults, and the constants all actors share."""

from dataclasses import dataclass, field

from argosy.domain.demand import Slo
from argosy.engine.profile import Profile
from argosy.engine.sim.scheduler import Scheduler
from argosy.router.core.state import RouterLimits

NETWORK_US = 200
"""One way between two processes of a data center, for a fact as for a call: a fifth of a
millisecond is what gRPC and NATS need between two hosts of one rack."""
HEARTBEAT_US = 1_000_000
"""Instances report their load at least this often, as live ones do."""
MAX_RUNNING = 256
"""Sequences an instance runs at once: vLLM's default of `max_num_seqs`."""
DEADLINE_US = 600_000_000
"""Requests may take ten minutes: long enough that a trace beyond capacity is queued, not cut."""


@dataclass(frozen=True)
class InstanceShape:
    """The engine of an instance. `kv_blocks` is per data-parallel rank."""

    profile: Profile
    kv_blocks: int
    block_tokens: int
    max_running: int
    dp_ranks: int

    def scheduler(self) -> Scheduler:
        """A scheduler of this shape with an empty KV cache."""
        return Scheduler(
            self.profile, self.kv_blocks, self.block_tokens, self.max_running, self.dp_ranks
        )


@dataclass(frozen=True)
class SimFleet:
    """The instances by role. The router chooses the role of the `flexible` ones."""

    aggregated: int = 0
    prefill: int = 0
    decode: int = 0
    flexible: int = 0
    dp_ranks: int = 1
    kv_tokens: int = 1_048_576
    """The KV cache of each data-parallel rank."""
    block_tokens: int = 64
    policy: str = RouterLimits().policy
    profile: Profile = field(default_factory=Profile)
    slo: Slo = field(default_factory=Slo)
    ttft_limit_ms: float = 0
    """Refuse requests that are predicted to wait longer, like the router's `ttft_limit_s`."""
    seed: int = 0
    routers: int = 1
    store_dram_tokens: int = 0
    """The DRAM of a KV store that all instances share; 0 means that there is no store."""
    store_ssd_tokens: int = 0
    idle_sleep_us: int = 0
    """Instances sleep after this long without a request; 0 means that none ever sleeps."""
    sleep_level: str = "dram"
    """Where the weights of a sleeping instance stay: `dram` or `disk`."""

    def instances(self) -> list[tuple[str, str]]:
        """The (name, role) of each instance."""
        roles = [
            ("decode", "decode", self.aggregated),
            ("prefill", "prefill", self.prefill),
            ("decode", "decode", self.decode),
            ("flexible", "flexible", self.flexible),
        ]
        return [
            (f"{name}-{number:03d}", role) for name, role, count in roles for number in range(count)
        ]

    def shape(self) -> InstanceShape:
        """The shape all instances of the fleet have."""
        blocks = self.kv_tokens // self.block_tokens
        return InstanceShape(self.profile, blocks, self.block_tokens, MAX_RUNNING, self.dp_ranks)


@dataclass(frozen=True)
class InstanceFault:
    """An instance is killed at a time and starts again, empty, `restart_us` later."""

    at_us: int
    instance: str
    restart_us: int
