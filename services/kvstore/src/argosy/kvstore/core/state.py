"""All that the store's core knows."""

import msgspec

from argosy.kvstore.core.eviction import EvictionPolicy, build_policy
from argosy.kvstore.core.slots import Slots, new_slots

DRAM, SSD = 0, 1
"""The tiers, as in the contract."""


class StoreLimits(msgspec.Struct, frozen=True):
    """What may be used, and for how long."""

    dram_bytes: int
    ssd_bytes: int = 0
    dram_segment_bytes: int = 64 << 20
    ssd_segment_bytes: int = 256 << 20
    lease_us: int = 10_000_000
    leases_max: int = 4096
    """Beyond it nothing is found and nothing taken until some have ended."""
    writing_bytes: int = 256 << 20
    """Most bytes on their way to SSD; beyond it blocks leave memory without a copy."""
    spare_share: float = 0.06
    """Of memory: kept free, by writing to SSD what is next to go, so that a put need not wait."""


class StoredBlock(msgspec.Struct):
    """One block, wherever it is."""

    key: bytes
    parent: bytes
    hash: int
    tokens: int
    block_bytes: int
    checksum: int
    depth: int = 1
    """How many blocks there are from the first of its chain to this one."""
    dram: int = -1
    """Offset of its slot in memory; -1: not there."""
    ssd: int = -1
    reading: bool = False
    """Its slot in memory is being filled from SSD."""
    writing: int = -1
    """The slot on SSD it is being written to."""
    leases: int = 0
    asked: int = 0
    asked_us: int = 0
    doomed: bool = False
    """Its prefix is gone: it goes once nobody is at it."""
    corrupt: int = -1
    """The tier whose copy is corrupt, and goes once nobody is at the block."""
    children: dict[bytes, None] = {}
    """Blocks that continue it, in any tier."""

    @property
    def in_use(self) -> bool:
        """Whether somebody is at its bytes."""
        return self.leases > 0 or self.reading or self.writing >= 0


class Lease(msgspec.Struct):
    """What somebody may read, or write."""

    expires_us: int
    keys: list[bytes] = []
    """To read, in order of the chain; of a writer, what its blocks continue."""
    granted: int = 0
    """How many of them the holder was told of."""
    ssd: dict[bytes, None] = {}
    """Those that were found on SSD."""
    blocks: list[StoredBlock] = []
    """To write; their slots are theirs already."""


class Counts(msgspec.Struct):
    """Since the start; as in the contract."""

    asked_blocks: int = 0
    stored_blocks: int = 0
    refused_blocks: int = 0
    corrupt_blocks: int = 0
    expired_leases: int = 0
    recovered_blocks: int = 0
    let_go_blocks: int = 0


class TierState(msgspec.Struct):
    """One tier: its room, who goes next, and what became of it."""

    slots: Slots
    eviction: EvictionPolicy
    blocks: int = 0
    tokens: int = 0
    hit_blocks: int = 0
    evicted_blocks: int = 0
    fetch_ms: float = 0
    fetch_gb_per_s: float = 0


class Flush(msgspec.Struct):
    """A flush under way."""

    waiting: dict[bytes, None] = {}
    """Blocks that are only in memory, as far as is known."""
    unstarted: list[bytes] = []
    """Those of them whose write has not begun, the next one last."""
    written: int = 0


class StoreState(msgspec.Struct):
    """See the module."""

    limits: StoreLimits
    tiers: list[TierState]
    blocks: dict[bytes, StoredBlock] = {}
    leases: dict[int, Lease] = {}
    awaited: dict[bytes, list[int]] = {}
    """Leases that wait for a block to be read from SSD."""
    promised: dict[bytes, int] = {}
    """Blocks somebody is writing, with their lease."""
    resting: list[tuple[int, int]] = []
    """(until_us, offset) of slots whose writer's time ran out: it may still be writing."""
    writing_bytes: int = 0
    writing_blocks: int = 0
    """Blocks, and their bytes, on their way to SSD."""
    ssd_trouble: str = ""
    ssd_rest_until_us: int = 0
    ssd_failures: int = 0
    flushes: dict[int, Flush] = {}
    counts: Counts = msgspec.field(default_factory=Counts)


DEFAULT_POLICY = "learned"
"""It found the most of all policies on the traces that were measured: docs/measurements.md."""
TYPICAL_BLOCK_BYTES = 1 << 20
"""How many blocks a tier may come to hold is guessed by this, for what policies remember."""


def new_state(limits: StoreLimits, eviction_policy: str = DEFAULT_POLICY) -> StoreState:
    """An empty store. Memory is cut evenly, so that all of it is used.

    Raises UnknownPluginError if no eviction policy of that name is installed.
    """
    sizes = (
        (limits.dram_bytes, limits.dram_segment_bytes),
        (limits.ssd_bytes, limits.ssd_segment_bytes),
    )
    return StoreState(
        limits,
        [
            TierState(
                new_slots(capacity, segment),
                build_policy(eviction_policy, max(1, capacity // TYPICAL_BLOCK_BYTES)),
            )
            for capacity, segment in sizes
        ],
    )
