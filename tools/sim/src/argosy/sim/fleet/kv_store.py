"""A KV store in virtual time: the real core; moving blocks takes time.

Each instance fetches over its own link, one batch after the other. The SSD tier reads one batch
after the other, too, and writes behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from argosy.domain.core import Event
from argosy.domain.timing import FAR
from argosy.engine.profile import Profile
from argosy.engine.sim.sequence import Sequence as EngineSequence
from argosy.kvstore.core import effects
from argosy.kvstore.core import events as kvstore_events
from argosy.kvstore.core.state import StoreLimits
from argosy.kvstore.core.store import StoreCore
from argosy.kvstore.policies import new_state
from argosy.router.core import events as router_events
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.kv_store_facts import STORE_NAME, StorePublisher
from argosy.sim.fleet.ports import KvClient, Publish
from argosy.sim.fleet.spec import HEARTBEAT_US, NETWORK_US, SimFleet
from argosy.sim.fleet.timers import Timers

SSD_GB_PER_S = 12.0
"""One fast NVMe drive (PCIe 5: 12 to 14 GB/s sequential). Reads do not slow writes down."""
LEASE_US = 3_600_000_000
"""No lease runs out: every simulated fetch ends its own, and no client of it can die."""


@dataclass
class Fetch:
    """The blocks of one prompt on their way to an instance."""

    instance: str
    on_end: Callable[[int], None]
    """Called with the number of blocks that have arrived."""
    granted_blocks: int = 0
    arrived_blocks: int = 0


class SimStore:
    """One store that all instances of a fleet save to and load from."""

    alive = True
    """No simulated fault reaches the store."""

    def __init__(self, fleet: SimFleet, *, queue: EventQueue, publish: Publish) -> None:
        self.name = STORE_NAME
        self._profile: Profile = fleet.profile
        self._block_tokens = fleet.block_tokens
        self._block_bytes = fleet.block_tokens * fleet.profile.kv_bytes_per_token
        self._queue = queue
        self.core = StoreCore(new_state(store_limits(fleet)))
        self._leases = 0
        self._fetches: dict[int, Fetch] = {}
        self._link_free_us: dict[str, int] = {}
        """By instance: when its link has moved all it was given."""
        self._disk_free_us = {"read": 0, "write": 0}
        self._timers = Timers(queue, self._feed)
        self._facts = StorePublisher(queue, publish)

    def start(self) -> None:
        """Join the fleet, and say so again with every heartbeat."""
        tiers = self.core.state.tiers
        self._facts.seen(
            [(tier.fetch_ms, tier.fetch_gb_per_s) for tier in tiers if tier.slots.segments]
        )
        self._queue.after(HEARTBEAT_US, self.start)

    def load(
        self, instance: KvClient, rank: int, sequence: EngineSequence, on_end: Callable[[], None]
    ) -> None:
        """Fetch what is stored of a prompt beyond what the rank caches, then call `on_end`."""
        cached = instance.cached_blocks(rank, sequence.hashes)
        usable = min(len(sequence.hashes), (sequence.prompt_tokens - 1) // self._block_tokens)
        if cached >= usable:
            on_end()
            return

        def loaded(blocks: int) -> None:
            sequence.preloaded = (cached, cached + blocks)
            on_end()

        self._leases += 1
        self._fetches[self._leases] = Fetch(instance.name, loaded)
        keys = [key_of(block) for block in sequence.hashes[:usable]]
        self._queue.after(NETWORK_US, self._ask, self._leases, keys[:cached], keys[cached:])
        # As live instances do: a prompt waits for a fetch no longer than computing it would take.
        tokens = (usable - cached) * self._block_tokens
        budget_ms = instance.profile.prompt_ms(tokens, instance.profile.tokens_per_step)
        self._queue.after(round(1e3 * budget_ms), self._end_fetch, self._leases)

    def save(self, sequence: EngineSequence) -> None:
        """Store the blocks a sequence has completed since it was last saved."""
        first = max(sequence.saved, sequence.cached // self._block_tokens)
        sequence.saved = max(first, sequence.known)
        if sequence.known <= first:
            return
        hashes = sequence.hashes
        blocks = [
            kvstore_events.Offered(
                key_of(hashes[n]),
                key_of(hashes[n - 1]) if n else b"",
                hashes[n],
                self._block_tokens,
            )
            for n in range(first, sequence.known)
        ]
        self._leases += 1
        self._queue.after(NETWORK_US, self._offer, self._leases, blocks)

    def snapshot(self, now_us: int) -> router_events.KvSnapshotTaken:
        """All blocks the store holds, by tier, including every change published so far."""
        self._facts.publish_changes()
        blocks = self.core.state.blocks.values()
        dram = [b.hash for b in blocks if b.dram >= 0 and not b.reading]
        ssd = [b.hash for b in blocks if b.ssd >= 0]
        return self._facts.snapshot(now_us, [dram, ssd])

    def _ask(self, lease: int, before: Sequence[bytes], keys: Sequence[bytes]) -> None:
        self._feed(
            kvstore_events.BlocksRequested(
                now_us=self._queue.now_us,
                lease=lease,
                keys=list(keys),
                block_bytes=self._block_bytes,
                before=list(before),
            )
        )

    def _offer(self, lease: int, blocks: list[kvstore_events.Offered]) -> None:
        self._feed(
            kvstore_events.RoomRequested(
                now_us=self._queue.now_us, lease=lease, block_bytes=self._block_bytes, blocks=blocks
            )
        )

    def _feed(self, event: Event) -> None:
        for effect in self.core.step(event):  # type: ignore[arg-type]
            if not self._timers.handle(effect):
                self._perform(effect)

    def _perform(self, effect: object) -> None:
        match effect:
            case effects.GrantBlocks():
                self._granted(effect)
            case effects.GrantRoom():
                if effect.rooms:
                    moved_us = self._moving_us(len(effect.rooms))
                    self._queue.after(moved_us, self._written, effect.lease, len(effect.rooms))
            case effects.ReadSsd():
                keys = [move.key for move in effect.moves]
                self._queue.at(self._disk("read", len(keys)), self._read, keys)
            case effects.WriteSsd():
                keys = [move.key for move in effect.moves]
                self._queue.at(self._disk("write", len(keys)), self._flushed, keys)
            case effects.PublishStored():
                self._facts.changed(effect.tier, effect.hashes, stored=True)
            case effects.PublishEvicted():
                self._facts.changed(effect.tier, effect.hashes, stored=False)

    def _moving_us(self, blocks: int) -> int:
        profile = self._profile
        return round(1e3 * profile.kv_transfer_ms(blocks * self._block_tokens, FAR))

    def _disk(self, way: str, blocks: int) -> int:
        """When the disk has moved these blocks, after all it was given before."""
        took_us = round(blocks * self._block_bytes / (SSD_GB_PER_S * 1e3))
        self._disk_free_us[way] = max(self._queue.now_us, self._disk_free_us[way]) + took_us
        return self._disk_free_us[way]

    def _granted(self, grant: effects.GrantBlocks) -> None:
        fetch = self._fetches.get(grant.lease)
        if fetch is None:
            return
        fetch.granted_blocks += len(grant.blocks)
        arrived_us = self._queue.now_us + NETWORK_US
        if grant.blocks:
            link_us = max(self._queue.now_us, self._link_free_us.get(fetch.instance, 0))
            link_us += self._moving_us(len(grant.blocks))
            self._link_free_us[fetch.instance] = arrived_us = link_us
        self._queue.at(arrived_us, self._arrived, grant.lease, fetch.granted_blocks, grant.last)

    def _arrived(self, lease: int, blocks: int, last: bool) -> None:
        fetch = self._fetches.get(lease)
        if fetch is not None:
            fetch.arrived_blocks = blocks
            if last:
                self._end_fetch(lease)

    def _end_fetch(self, lease: int) -> None:
        """All blocks have arrived, or computing the rest is as quick as waiting for it."""
        fetch = self._fetches.pop(lease, None)
        if fetch is not None:
            self._feed(kvstore_events.LeaseEnded(now_us=self._queue.now_us, lease=lease))
            fetch.on_end(fetch.arrived_blocks)

    def _written(self, lease: int, blocks: int) -> None:
        self._feed(
            kvstore_events.BlocksWritten(
                now_us=self._queue.now_us, lease=lease, checksums=[1] * blocks
            )
        )

    def _read(self, keys: list[bytes]) -> None:
        self._feed(kvstore_events.SsdRead(now_us=self._queue.now_us, good=keys, bad=[]))

    def _flushed(self, keys: list[bytes]) -> None:
        self._feed(kvstore_events.SsdWritten(now_us=self._queue.now_us, keys=keys))


def store_limits(fleet: SimFleet) -> StoreLimits:
    """The store's memory, in one segment of each tier: all blocks have one size."""
    token_bytes = fleet.profile.kv_bytes_per_token
    dram_bytes = fleet.store_dram_tokens * token_bytes
    ssd_bytes = fleet.store_ssd_tokens * token_bytes
    return StoreLimits(
        dram_bytes,
        ssd_bytes,
        dram_bytes,
        ssd_bytes,
        lease_us=LEASE_US,
        leases_max=1 << 30,
        writing_bytes=dram_bytes // 16,
    )


def key_of(block: int) -> bytes:
    """The key of a block. A trace names blocks uniquely, so its name serves."""
    return block.to_bytes(8, "little")
