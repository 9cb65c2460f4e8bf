"""The state of the store's core."""

import msgspec

from argosy.kvstore.core.eviction import EvictionPolicy, build_policy
from argosy.kvstore.core.slots import Slots, new_slots

DRAM, SSD = 0, 1
"""The tiers, as in the contract."""


class StoreLimits(msgspec.Struct, frozen=True):
    """How much memory and SSD the store may use, and for how long a lease lasts."""

    dram_bytes: int
    ssd_bytes: int = 0
    dram_segment_bytes: int = 64 << 20
    """Models with blocks of different sizes share memory in pieces of this size."""
    ssd_segment_bytes: int = 256 << 20
    """Each is a file: some hundreds for a tier of 100 GB."""
    lease_us: int = 10_000_000
    leases_max: int = 4096
    """With that many leases under way readers find nothing and writers get no room."""
    writing_bytes: int = 256 << 20
    """The most bytes on their way to SSD: a second of a slow disk. Blocks evicted meanwhile get no
    copy on SSD."""
    spare_share: float = 0.06
    """The share of memory kept free ahead of puts, so that a put need not wait for SSD: what would
    be evicted next is evicted, or written to SSD."""


class StoredBlock(msgspec.Struct):
    """One block, in whichever tiers it is."""

    key: bytes
    parent: bytes
    hash: int
    tokens: int
    block_bytes: int
    checksum: int
    depth: int = 1
    """How many blocks there are from the first of its chain to this one."""
    dram: int = -1
    """The offset of its slot in memory; -1: it is not there."""
    ssd: int = -1
    reading: bool = False
    """Whether its slot in memory is being filled from SSD."""
    writing: int = -1
    """The offset of the slot on SSD it is being written to; -1: it is not being written."""
    leases: int = 0
    asked: int = 0
    asked_us: int = 0
    doomed: bool = False
    """Whether its prefix is gone, so that it is dropped once it is not in use."""
    corrupt: int = -1
    """The tier whose copy is corrupt, and is dropped once the block is not in use; -1: none."""
    children: dict[bytes, None] = {}
    """Blocks that continue it, in any tier."""

    @property
    def in_use(self) -> bool:
        """Whether a reader, or a move between the tiers, uses its bytes."""
        return self.leases > 0 or self.reading or self.writing >= 0


class Lease(msgspec.Struct):
    """What one caller may read or write in memory."""

    expires_us: int
    keys: list[bytes] = []
    """Of a reader: its blocks, in order of the chain. Of a writer: what its blocks continue."""
    granted: int = 0
    """How many of them the reader was granted so far."""
    ssd: dict[bytes, None] = {}
    """Those of them that were found on SSD."""
    blocks: list[StoredBlock] = []
    """Of a writer: the blocks it writes, which have their slots already."""


class Counts(msgspec.Struct):
    """What was done since the start; the names are the contract's."""

    asked_blocks: int = 0
    stored_blocks: int = 0
    refused_blocks: int = 0
    corrupt_blocks: int = 0
    expired_leases: int = 0
    recovered_blocks: int = 0
    let_go_blocks: int = 0


class TierState(msgspec.Struct):
    """One tier: its slots, its eviction policy, and its counts."""

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
    """All that the store's core knows."""

    limits: StoreLimits
    tiers: list[TierState]
    blocks: dict[bytes, StoredBlock] = {}
    leases: dict[int, Lease] = {}
    awaited: dict[bytes, list[int]] = {}
    """Leases that wait for a block to be read from SSD, by block."""
    promised: dict[bytes, int] = {}
    """Blocks that a writer has room for, with its lease."""
    quarantined: list[tuple[int, int]] = []
    """(until_us, offset) of slots whose writer is gone or late, and may still be writing."""
    writing_bytes: int = 0
    writing_blocks: int = 0
    """Blocks, and their bytes, on their way to SSD."""
    ssd_trouble: str = ""
    ssd_backoff_until_us: int = 0
    ssd_failures: int = 0
    flushes: dict[int, Flush] = {}
    counts: Counts = msgspec.field(default_factory=Counts)


DEFAULT_POLICY = "learned"
"""It found the most of all policies on the traces that were measured: docs/measurements.md."""
TYPICAL_BLOCK_BYTES = 1 << 20
"""By which a tier's capacity in blocks is estimated, for what a policy remembers: blocks of 32
tokens of an 8 B model are 4 MiB, of a small model 256 KiB."""


def empty_state(limits: StoreLimits, eviction_policy: str) -> StoreState:
    """An empty store. Memory is cut evenly, so that all of it is used.

    Raises KeyError if no eviction policy of that name is known: see argosy.kvstore.policies.
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
