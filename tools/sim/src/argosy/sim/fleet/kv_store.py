"""A KV store in virtual time: the store's own core, with time for what is moved.

Instances fetch over their own links, one after the other; the SSD tier reads one batch
after the other and writes behind.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from argosy.domain.core import Event
from argosy.domain.timing import FAR
from argosy.kvstore.core import effects
from argosy.kvstore.core import events as kvstore_events
from argosy.kvstore.core.state import DRAM, SSD, StoreLimits, new_state
from argosy.kvstore.core.store import StoreCore
from argosy.router.core import events as router_events
from argosy.sim.fleet.timers import Timers

if TYPE_CHECKING:
    from argosy.engine.sim.sequence import Sequence as Running
    from argosy.sim.fleet.instance import SimInstance
    from argosy.sim.fleet.simulation import Simulation

NAME, EPOCH = "kvstore-0", "1"
NETWORK_US = 200
SSD_GB_PER_S = 12.0
"""Of one fast NVMe drive (PCIe 5: 12 to 14 GB/s sequential), reads and writes apart."""
TELL_US = 20_000


class Fetch:
    """One prompt's blocks on their way to an instance."""

    def __init__(self, instance: "SimInstance", then: Callable[[int], None]) -> None:
        self.instance = instance
        self.then = then
        self.blocks = 0
        """Granted so far."""
        self.arrived = 0


class SimStore:
    """See the module. Sizes in tokens."""

    def __init__(
        self,
        simulation: "Simulation",
        dram_tokens: int,
        ssd_tokens: int,
        block_tokens: int,
        token_bytes: int,
    ) -> None:
        self.simulation = simulation
        self.block_tokens = block_tokens
        self.block_bytes = block_tokens * token_bytes
        dram, ssd = dram_tokens * token_bytes, ssd_tokens * token_bytes
        # One segment each: there is one size of blocks.
        limits = StoreLimits(
            dram,
            ssd,
            dram,
            ssd,
            lease_us=3_600_000_000,
            leases_max=1 << 30,
            writing_bytes=dram // 16,
        )
        self.core = StoreCore(new_state(limits))
        self._leases = 0
        self._fetches: dict[int, Fetch] = {}
        self._links: dict[str, int] = {}
        """When each instance's link is free."""
        self._disk_us = {"read": 0, "write": 0}
        self._timers = Timers(simulation, self._feed)
        self._sequence = 0
        self._changes: dict[tuple[int, int], bool] = {}

    def start(self) -> None:
        """Join the fleet."""
        tiers = self.core.state.tiers
        costs = [(tier.fetch_ms, tier.fetch_gb_per_s) for tier in tiers if tier.slots.segments]
        self.simulation.tell(
            lambda now_us: router_events.StoreSeen(
                now_us=now_us, store=NAME, epoch=EPOCH, address=NAME, tiers=costs
            )
        )
        self.simulation.after(self.simulation.heartbeat_us, self.start)

    def load(
        self, instance: "SimInstance", rank: int, sequence: "Running", then: Callable[[], None]
    ) -> None:
        """Fetch what is stored of the prompt beyond what the instance caches, then go on."""
        held = instance.scheduler.ranks[rank].pool.prefix_hit_blocks(sequence.hashes)
        usable = min(len(sequence.hashes), (sequence.prompt_tokens - 1) // self.block_tokens)
        if held >= usable:
            then()
            return

        def loaded(blocks: int) -> None:
            sequence.preloaded = (held, held + blocks)
            then()

        self._leases += 1
        self._fetches[self._leases] = Fetch(instance, loaded)
        keys = [key_of(block) for block in sequence.hashes[:usable]]
        self.simulation.after(NETWORK_US, self._ask, self._leases, keys[:held], keys[held:])
        # As instances do: what takes longer to fetch than to compute is not waited for.
        tokens = (usable - held) * self.block_tokens
        budget_ms = instance.profile.prompt_ms(tokens, instance.profile.tokens_per_step)
        self.simulation.after(round(1e3 * budget_ms), self._over, self._leases)

    def save(self, sequence: "Running") -> None:
        """Store the blocks it has completed since the last time."""
        first = max(sequence.saved, sequence.cached // self.block_tokens)
        sequence.saved = max(first, sequence.known)
        if sequence.known <= first:
            return
        hashes = sequence.hashes
        blocks = [
            kvstore_events.Offered(
                key_of(hashes[n]), key_of(hashes[n - 1]) if n else b"", hashes[n], self.block_tokens
            )
            for n in range(first, sequence.known)
        ]
        self._leases += 1
        self.simulation.after(NETWORK_US, self._offer, self._leases, blocks)

    def snapshot(self, now_us: int) -> router_events.KvSnapshotTaken:
        """All it holds, by tier."""
        self._tell_changes()
        blocks = self.core.state.blocks.values()
        dram = [b.hash for b in blocks if b.dram >= 0 and not b.reading]
        ssd = [b.hash for b in blocks if b.ssd >= 0]
        return router_events.KvSnapshotTaken(
            now_us=now_us, instance=NAME, epoch=EPOCH, sequence=self._sequence, blocks=[dram, ssd]
        )

    def _ask(self, lease: int, before: Sequence[bytes], keys: Sequence[bytes]) -> None:
        self._feed(
            kvstore_events.BlocksRequested(
                now_us=self.simulation.now_us,
                lease=lease,
                keys=list(keys),
                block_bytes=self.block_bytes,
                before=list(before),
            )
        )

    def _offer(self, lease: int, blocks: list[kvstore_events.Offered]) -> None:
        self._feed(
            kvstore_events.RoomRequested(
                now_us=self.simulation.now_us,
                lease=lease,
                block_bytes=self.block_bytes,
                blocks=blocks,
            )
        )

    def _feed(self, event: Event) -> None:
        for effect in self.core.step(event):  # type: ignore[arg-type]
            if not self._timers.take(effect):
                self._perform(effect)

    def _perform(self, effect: object) -> None:
        match effect:
            case effects.GrantBlocks():
                self._granted(effect)
            case effects.GrantRoom():
                if effect.rooms:
                    moved_us = self._moving_us(len(effect.rooms))
                    self.simulation.after(moved_us, self._written, effect.lease, len(effect.rooms))
            case effects.ReadSsd():
                keys = [move.key for move in effect.moves]
                self.simulation.at(self._disk("read", len(keys)), self._read, keys)
            case effects.WriteSsd():
                keys = [move.key for move in effect.moves]
                self.simulation.at(self._disk("write", len(keys)), self._flushed, keys)
            case effects.PublishStored():
                self._changed(effect.tier, effect.hashes, stored=True)
            case effects.PublishEvicted():
                self._changed(effect.tier, effect.hashes, stored=False)

    def _moving_us(self, blocks: int) -> int:
        profile = self.simulation.fleet.profile
        return round(1e3 * profile.kv_transfer_ms(blocks * self.block_tokens, FAR))

    def _disk(self, way: str, blocks: int) -> int:
        """When the disk has moved them, after what it has to do already."""
        took_us = round(blocks * self.block_bytes / (SSD_GB_PER_S * 1e3))
        self._disk_us[way] = max(self.simulation.now_us, self._disk_us[way]) + took_us
        return self._disk_us[way]

    def _granted(self, grant: effects.GrantBlocks) -> None:
        fetch = self._fetches.get(grant.lease)
        if fetch is None:
            return
        fetch.blocks += len(grant.blocks)
        arrived_us = self.simulation.now_us + NETWORK_US
        if grant.blocks:
            link_us = max(self.simulation.now_us, self._links.get(fetch.instance.name, 0))
            link_us += self._moving_us(len(grant.blocks))
            self._links[fetch.instance.name] = arrived_us = link_us
        self.simulation.at(arrived_us, self._arrived, grant.lease, fetch.blocks, grant.last)

    def _arrived(self, lease: int, blocks: int, last: bool) -> None:
        fetch = self._fetches.get(lease)
        if fetch is not None:
            fetch.arrived = blocks
            if last:
                self._over(lease)

    def _over(self, lease: int) -> None:
        """All has come, or enough time has passed."""
        fetch = self._fetches.pop(lease, None)
        if fetch is not None:
            self._feed(kvstore_events.LeaseEnded(now_us=self.simulation.now_us, lease=lease))
            fetch.then(fetch.arrived)

    def _written(self, lease: int, blocks: int) -> None:
        self._feed(
            kvstore_events.BlocksWritten(
                now_us=self.simulation.now_us, lease=lease, checksums=[1] * blocks
            )
        )

    def _read(self, keys: list[bytes]) -> None:
        self._feed(kvstore_events.SsdRead(now_us=self.simulation.now_us, good=keys, bad=[]))

    def _flushed(self, keys: list[bytes]) -> None:
        self._feed(kvstore_events.SsdWritten(now_us=self.simulation.now_us, keys=keys))

    def _changed(self, tier: int, hashes: list[int], *, stored: bool) -> None:
        if not self._changes:
            self.simulation.after(TELL_US, self._tell_changes)
        for block in hashes:
            if self._changes.get((tier, block), stored) != stored:
                del self._changes[tier, block]
            else:
                self._changes[tier, block] = stored

    def _tell_changes(self) -> None:
        changes, self._changes = self._changes, {}
        for tier in (DRAM, SSD):
            gone = [h for (t, h), stored in changes.items() if t == tier and not stored]
            come = [h for (t, h), stored in changes.items() if t == tier and stored]
            if gone or come:
                self._sequence += 1
                self._tell(tier, come, gone, self._sequence)

    def _tell(self, tier: int, come: list[int], gone: list[int], sequence: int) -> None:
        self.simulation.tell(
            lambda now_us: router_events.KvChanged(
                now_us=now_us,
                instance=NAME,
                epoch=EPOCH,
                sequence=sequence,
                stored=come,
                removed=gone,
                dp_rank=tier,
            )
        )


def key_of(block: int) -> bytes:
    """A block's key: the trace's names are as good as any."""
    return block.to_bytes(8, "little")
