"""Which KV blocks are where: block hash -> the set of its holders, as a bit mask.

A holder is one cache: a data-parallel rank of an instance, in one life of its process.
Hashes are chained, so the first block a holder lacks ends its prefix hit.

Wiping a holder takes its bit out of `_live` at once, so nothing of it is found again;
its bits in the table are swept out later, a few at a time, and only then is the bit
given to another holder.

Bound: `blocks_max` blocks in two generations. When the young one holds half of that,
the old one is forgotten and the young one takes its place; a block stored or used for
a dispatch is young again. So what goes is what was not used for longest, roughly
(the idea of CLOCK, in two steps).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

SWEEP_BLOCKS = 20_000
MASKS_MAX = 65_536


class PrefixIndex:
    """See the module. Memory: about 32 B for a hash, and a slot of a dict."""

    def __init__(self, blocks_max: int) -> None:
        self.blocks_max = blocks_max
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
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
        self._sweeping: tuple[int, list[int]] = (0, [])

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def store(self, holder: str, blocks: Iterable[int]) -> None:
        """The holder has these blocks from now on."""
        bit = self._bits.get(holder) or self._new_bit(holder)
        young, old, masks = self._young, self._old, self._masks
        for block in blocks:
            mask = young.get(block)
            if mask is None:
                mask = old.pop(block, 0) if old else 0
            mask |= bit
            young[block] = masks.setdefault(mask, mask)
        self._bound()

    def remove(self, holder: str, blocks: Iterable[int]) -> None:
        """The holder has these blocks no more."""
        bit = self._bits.get(holder)
        if bit is None:
            return
        masks = self._masks
        for block in blocks:
            table = self._young if block in self._young else self._old
            mask = table.get(block)
            if mask is not None and mask & bit:
                if mask == bit:
                    del table[block]
                else:
                    mask ^= bit
                    table[block] = masks.setdefault(mask, mask)

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
        speculative, old = self._speculative, self._old
        again = self._speculated_again.setdefault(bit, {})
        for block in blocks:
            mask = speculative.get(block, 0)
            if mask & bit:
                again[block] = again.get(block, 0) + 1
            else:
                speculative[block] = mask | bit
            if old and block in old:
                self._young[block] = old.pop(block)
        self._speculated.append((until_us, bit, tuple(blocks)))

    def forget_speculative(self, now_us: int) -> None:
        """Drop speculative whose time is over."""
        while self._speculated and self._speculated[0][0] <= now_us:
            _, bit, blocks = self._speculated.popleft()
            self._forget_one_speculative(bit, blocks)

    def match(self, blocks: Sequence[int]) -> dict[str, int]:
        """Leading blocks of a prompt, by holder; those with none are left out."""
        young, old, speculative = self._young, self._old, self._speculative
        depth, mask = 0, self._live
        found: dict[str, int] = {}
        for block in blocks:
            here = young.get(block, 0) or (old.get(block, 0) if old else 0)
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
            here = (young.get(block, 0) or old.get(block, 0)) & live
            if not here:
                break
            depth += 1
            far += not here & near_bits
        return depth, far

    def held_by(self, holder: str) -> int:
        """Blocks the index believes the holder has (slow: for people and tests)."""
        bit = self._bits.get(holder, 0)
        return sum(1 for table in (self._young, self._old) for mask in table.values() if mask & bit)

    def sweep(self) -> None:
        """Take dead holders' bits out of some blocks; when out of all, they may be used again."""
        dead, blocks = self._sweeping
        if not dead:
            if not self._dead:
                return
            dead, self._dead = self._dead, 0
            for _, bit, speculated in self._speculated:
                if bit & dead:
                    self._forget_one_speculative(bit, speculated)
            self._speculated = deque(
                add_speculative
                for add_speculative in self._speculated
                if not add_speculative[1] & dead
            )
            blocks = [*self._old, *self._young]
        for block in blocks[-SWEEP_BLOCKS:]:
            for table in (self._young, self._old):
                mask = table.get(block)
                if mask is not None and mask & dead:
                    mask &= ~dead
                    if mask:
                        table[block] = self._masks.setdefault(mask, mask)
                    else:
                        del table[block]
        del blocks[-SWEEP_BLOCKS:]
        self._sweeping = (dead, blocks) if blocks else (0, [])

    def to_snapshot(self) -> dict[str, Any]:
        """All of it as plain data: blocks by holder."""
        holders: dict[str, list[int]] = {}
        old: dict[str, list[int]] = {}
        for table, into in ((self._young, holders), (self._old, old)):
            for block, mask in table.items():
                for name in self._holders(mask & self._live):
                    into.setdefault(name, []).append(block)
        speculative = [
            [until_us, self._names[bit], list(blocks)]
            for until_us, bit, blocks in self._speculated
            if bit in self._names
        ]
        return {"max": self.blocks_max, "young": holders, "old": old, "speculative": speculative}

    @classmethod
    def from_snapshot(cls, snapshot: dict[str, Any]) -> "PrefixIndex":
        """An index that answers as the one the snapshot was taken of."""
        index = cls(1 << 62)
        for until_us, name, blocks in snapshot["speculative"]:
            index.add_speculative(name, blocks, until_us)
        for name, blocks in snapshot["old"].items():
            index.store(name, blocks)
        index._old, index._young = index._young, {}
        for name, blocks in snapshot["young"].items():
            index.store(name, blocks)
        index.blocks_max = snapshot["max"]
        return index

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

    def _holders(self, mask: int) -> list[str]:
        found: dict[str, int] = {}
        self._note(mask, 1, found)
        return list(found)

    def _new_bit(self, holder: str) -> int:
        taken = self._live | self._dead | self._sweeping[0]
        bit = ~taken & (taken + 1)
        self._bits[holder], self._names[bit] = bit, holder
        self._live |= bit
        return bit

    def _bound(self) -> None:
        if len(self._young) * 2 > self.blocks_max:
            self._old, self._young = self._young, {}
        if len(self._masks) > MASKS_MAX:
            self._masks.clear()
