"""Which KV blocks are where: block hash -> the set of its holders, as a bit mask.

A holder is one cache: a data-parallel rank of an instance, in one life of its process.
Hashes are chained, so the first block a holder lacks ends its prefix hit.

Wiping a holder takes its bit out of `_live` at once, so nothing of it is found again.
Its bits in the tables are swept out later, some shards at a time, and only then is the
bit given to another holder.

Bound: `blocks_max` blocks in two generations. When the young one holds half of that, the
index forgets the old one and the young one takes its place. A block that is stored or used
for a dispatch is young again. So the index forgets, roughly, the blocks that were not used
for the longest time (the idea of CLOCK, in two steps).

Each generation is a table of SHARDS dicts, chosen by the low bits of the hash. No operation
on one dict takes long then, whatever the size of the index: neither growing it, nor
sweeping, freeing or encoding it (see `prefix_index_slices`).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from argosy.router.core.prefix_index_slices import SHARDS, IndexSlices, Table, new_table

LOW_BITS = SHARDS - 1
SWEEP_BLOCKS = 20_000
"""Looked at in one sweep: about a millisecond."""
MASKS_MAX = 65_536
"""Distinct masks kept to be shared; beyond it they are collected anew. 8 MB at 1,000 holders."""


class PrefixIndex:
    """See the module. Memory: about 32 B for a hash, and a slot of a dict.

    A state's snapshot takes it in slices: it is an `argosy.domain.core.Sliceable`.
    """

    def __init__(self, blocks_max: int) -> None:
        self.blocks_max = blocks_max
        self._generation = 0
        """Number of the young generation; the old one is the one before."""
        self._young: Table = new_table()
        self._old: Table = new_table()
        self._young_blocks = 0
        self._forgotten: Table = []
        """Dicts of a forgotten generation, freed one at a time: all at once would stall."""
        self._speculative: dict[int, int] = {}
        """Blocks that are on their way to a holder: what was just dispatched there."""
        self._speculated: deque[tuple[int, int, tuple[int, ...]]] = deque()
        """(until_us, bit, blocks), in order of time."""
        self._speculated_again: dict[int, dict[int, int]] = {}
        """By bit and block: how many speculative of it beyond the first are yet to end."""
        self._masks: dict[int, int] = {}
        """Equal masks are one object: most blocks have one of few sets of holders."""
        self._bits: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._live = 0
        self._dead = 0
        """Bits of wiped holders that no sweep has begun to take out."""
        self._sweeping = 0
        """Bits that the sweep under way takes out."""
        self._swept_shards = 0
        self._slices: IndexSlices | None = None
        """While a snapshot of the index is taken."""

    def __len__(self) -> int:
        return sum(map(len, self._young)) + sum(map(len, self._old))

    def store(self, holder: str, blocks: Sequence[int]) -> None:
        """The holder has these blocks from now on."""
        bit = self._bits.get(holder) or self._new_bit(holder)
        young, old, masks = self._young, self._old, self._masks
        new = 0
        for block in blocks:
            table = young[block & LOW_BITS]
            mask = table.get(block)
            if mask is None:
                mask = old[block & LOW_BITS].pop(block, 0)
                new += 1
            mask |= bit
            table[block] = masks.setdefault(mask, mask)
        self._young_blocks += new
        self._note_change(blocks)
        self._bound()

    def remove(self, holder: str, blocks: Sequence[int]) -> None:
        """The holder has these blocks no more."""
        bit = self._bits.get(holder)
        if bit is None:
            return
        self._take_out(blocks, bit)

    def wipe(self, holder: str) -> None:
        """The holder has nothing any more: its process restarted, slept or went away."""
        bit = self._bits.pop(holder, None)
        if bit is not None:
            del self._names[bit]
            self._live &= ~bit
            self._dead |= bit

    def add_speculative(self, holder: str, blocks: Sequence[int], until_us: int) -> None:
        """The holder will have these blocks soon; believed until then, or until it says so."""
        if not blocks:
            return
        bit = self._bits.get(holder) or self._new_bit(holder)
        self._speculate(until_us, bit, tuple(blocks))
        moved = [block for block in blocks if block in self._old[block & LOW_BITS]]
        for block in moved:
            # A block may be in a prompt twice.
            if block in (old := self._old[block & LOW_BITS]):
                self._young[block & LOW_BITS][block] = old.pop(block)
                self._young_blocks += 1
        self._note_change(moved)

    def forget_speculative(self, now_us: int) -> None:
        """Drop speculative blocks whose time is over."""
        while self._speculated and self._speculated[0][0] <= now_us:
            _, bit, blocks = self._speculated.popleft()
            self._forget_one_speculative(bit, blocks)

    def match(self, blocks: Sequence[int]) -> dict[str, int]:
        """Leading blocks of a prompt, by holder; those with none are left out."""
        young, old, speculative = self._young, self._old, self._speculative
        depth, mask = 0, self._live
        found: dict[str, int] = {}
        for block in blocks:
            shard = block & LOW_BITS
            here = young[shard].get(block, 0) or old[shard].get(block, 0)
            if speculative:
                here |= speculative.get(block, 0)
            here &= mask
            if here != mask:
                if depth:
                    self._note(mask & ~here, depth, found)
                mask = here
                if not mask:
                    break
            depth += 1
        if depth:
            self._note(mask, depth, found)
        return found

    def match_any(self, blocks: Sequence[int], near: Iterable[str]) -> tuple[int, int]:
        """Leading blocks of a prompt that are somewhere; how many of them nowhere `near`."""
        young, old, live = self._young, self._old, self._live
        near_bits = 0
        for holder in near:
            near_bits |= self._bits.get(holder, 0)
        depth = far = 0
        for block in blocks:
            shard = block & LOW_BITS
            here = (young[shard].get(block, 0) or old[shard].get(block, 0)) & live
            if not here:
                break
            depth += 1
            far += not here & near_bits
        return depth, far

    def held_by(self, holder: str) -> int:
        """How many blocks the index believes the holder has (slow: for people and tests)."""
        return len(self.blocks_of(holder))

    def blocks_of(self, holder: str) -> list[int]:
        """Blocks the index believes the holder has (slow: for people and tests)."""
        bit = self._bits.get(holder, 0)
        tables = (*self._young, *self._old)
        return [block for table in tables for block, mask in table.items() if mask & bit]

    def sweep(self) -> None:
        """Take dead holders' bits out of some blocks; when out of all, they may be used again."""
        if not self._sweeping:
            if not self._dead:
                return
            self._sweeping, self._dead, self._swept_shards = self._dead, 0, 0
            self._forget_dead_speculative(self._sweeping)
        looked_at = 0
        while self._swept_shards < SHARDS and looked_at < SWEEP_BLOCKS:
            for table in (self._young[self._swept_shards], self._old[self._swept_shards]):
                if table:
                    looked_at += len(table)
                    dead = [block for block, mask in table.items() if mask & self._sweeping]
                    self._take_out(dead, self._sweeping)
            self._swept_shards += 1
        if self._swept_shards == SHARDS:
            self._sweeping = 0

    # -- snapshots

    def to_snapshot(self) -> dict[str, Any]:
        """All of it as plain data; while slices are taken, without what they hold."""
        return {
            "max": self.blocks_max,
            "generation": self._generation,
            "bits": {name: number_of(bit) for name, bit in self._bits.items()},
            "dead": packed(self._dead),
            "sweeping": packed(self._sweeping),
            "swept_shards": self._swept_shards,
            "speculated": [
                (until_us, number_of(bit), blocks) for until_us, bit, blocks in self._speculated
            ],
            "slices": [] if self._slices is not None else self._all_slices(),
        }

    @classmethod
    def from_snapshot(cls, snapshot: dict[str, Any]) -> "PrefixIndex":
        """An index that answers as the one the snapshot was taken of."""
        index = cls(snapshot["max"])
        index._generation = snapshot["generation"]
        index._bits = {name: 1 << number for name, number in snapshot["bits"].items()}
        index._names = {bit: name for name, bit in index._bits.items()}
        index._live = sum(index._names)
        index._dead = int.from_bytes(snapshot["dead"], "little")
        index._sweeping = int.from_bytes(snapshot["sweeping"], "little")
        index._swept_shards = snapshot["swept_shards"]
        for until_us, number, blocks in snapshot["speculated"]:
            index._speculate(until_us, 1 << number, tuple(blocks))
        for data in snapshot["slices"]:
            index.add_slice(data)
        return index

    def start_slices(self) -> None:
        """Begin a snapshot."""
        self._slices = IndexSlices(self._generation, self._young, self._old)

    def next_slice(self) -> bytes | None:
        """About SLICE_BLOCKS blocks that no slice holds as they are now; None: few are left."""
        assert self._slices is not None
        return self._slices.take_next(self._generation, self._young, self._old)

    def last_slice(self) -> bytes:
        """All blocks that no slice holds as they are now."""
        assert self._slices is not None
        return self._slices.take_last(self._generation, self._young, self._old)

    def stop_slices(self) -> None:
        """End the snapshot."""
        self._slices = None

    def add_slice(self, data: bytes) -> None:
        """Take in a slice; it replaces what earlier ones said of its blocks."""
        for generation, blocks, masks in IndexSlices.read(data):
            table = None
            if generation in (self._generation, self._generation - 1):
                table = self._young if generation == self._generation else self._old
            for block, mask in zip(blocks, masks, strict=True):
                shard = block & LOW_BITS
                self._young[shard].pop(block, None)
                self._old[shard].pop(block, None)
                if table is not None:
                    table[shard][block] = self._masks.setdefault(mask, mask)
        self._young_blocks = sum(map(len, self._young))

    def _all_slices(self) -> list[bytes]:
        slices = IndexSlices(self._generation, self._young, self._old)
        return [slices.take_last(self._generation, self._young, self._old)]

    # -- inner

    def _note_change(self, blocks: Sequence[int]) -> None:
        if self._slices is not None and blocks:
            self._slices.changed(blocks)

    def _take_out(self, blocks: Sequence[int], bits: int) -> None:
        """Holders of these bits have the blocks no more."""
        young, old, masks = self._young, self._old, self._masks
        gone_young = 0
        for block in blocks:
            table = young[block & LOW_BITS]
            mask = table.get(block)
            is_young = mask is not None
            if mask is None:
                table = old[block & LOW_BITS]
                mask = table.get(block, 0)
            if not mask & bits:
                continue
            if mask := mask & ~bits:
                table[block] = masks.setdefault(mask, mask)
            else:
                del table[block]
                gone_young += is_young
        self._young_blocks -= gone_young
        self._note_change(blocks)

    def _speculate(self, until_us: int, bit: int, blocks: tuple[int, ...]) -> None:
        speculative = self._speculative
        again = self._speculated_again.setdefault(bit, {})
        for block in blocks:
            mask = speculative.get(block, 0)
            if mask & bit:
                again[block] = again.get(block, 0) + 1
            else:
                speculative[block] = mask | bit
        self._speculated.append((until_us, bit, blocks))

    def _forget_dead_speculative(self, dead: int) -> None:
        for _, bit, blocks in self._speculated:
            if bit & dead:
                self._forget_one_speculative(bit, blocks)
        self._speculated = deque(entry for entry in self._speculated if not entry[1] & dead)

    def _forget_one_speculative(self, bit: int, blocks: Iterable[int]) -> None:
        again = self._speculated_again.get(bit, {})
        for block in blocks:
            more = again.pop(block, 0)
            if more > 1:
                again[block] = more - 1
            elif not more:
                mask = self._speculative.get(block, 0) & ~bit
                if mask:
                    self._speculative[block] = mask
                else:
                    self._speculative.pop(block, None)

    def _note(self, mask: int, depth: int, found: dict[str, int]) -> None:
        names = self._names
        while mask:
            bit = mask & -mask
            found[names[bit]] = depth
            mask ^= bit

    def _new_bit(self, holder: str) -> int:
        taken = self._live | self._dead | self._sweeping
        bit = ~taken & (taken + 1)
        self._bits[holder], self._names[bit] = bit, holder
        self._live |= bit
        return bit

    def _bound(self) -> None:
        if self._forgotten:
            self._forgotten.pop()
        if self._young_blocks * 2 > self.blocks_max:
            self._forgotten = self._old
            self._old, self._young = self._young, new_table()
            self._generation += 1
            self._young_blocks = 0
        if len(self._masks) > MASKS_MAX:
            self._masks.clear()


def number_of(bit: int) -> int:
    """Its place in a mask."""
    return bit.bit_length() - 1


def packed(mask: int) -> bytes:
    """A mask as bytes, little-endian: msgpack has no integers beyond 64 bits."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")
