"""The prefix index's snapshot, taken in slices while the index goes on changing.

First every dict of both generations is copied once, when its turn comes, and the copy is
encoded in some pieces. Blocks
that change meanwhile are written down in `_changed`, batch by batch, and encoded again as
they are then. That goes on until few are left; the last slice holds those. This is how a
virtual machine's memory is copied while it runs (pre-copy). The index changes far more
slowly than slices are taken, so it ends.

Bound: `_changed` holds references to the batches that changed since the snapshot began and
were not encoded again: 8 B a block beside the hashes themselves, for the seconds that it
takes. 4 M blocks take about 1,000 slices, of which the copy of one dict is kept.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

SHARDS = 256
"""At 4 M blocks a dict holds about 8,000 of a generation: under a millisecond to encode, or to
grow. Numbers below 256 are ready-made objects in CPython, so choosing a dict costs little."""
SLICE_BLOCKS = 4_096
"""Encoded at once: about a millisecond."""

Table = list[dict[int, int]]
"""One generation: mask of holders by block, in SHARDS dicts by the block's low bits."""

GONE = -2
"""Stands for the generation of a block that is in none any more; -1 precedes the first."""


class SliceGroup(msgspec.Struct, frozen=True, array_like=True):
    """Blocks of one generation: `masks[numbers[i]]` says who has `blocks[i]`."""

    generation: int
    blocks: list[int]
    masks: list[bytes]
    """Distinct ones, little-endian."""
    numbers: list[int]


_decode = msgspec.msgpack.Decoder(list[SliceGroup]).decode


def new_table() -> Table:
    """An empty generation."""
    return [{} for _ in range(SHARDS)]


class IndexSlices:
    """Which blocks no slice holds yet. See the module."""

    def __init__(self, generation: int, young: Table, old: Table) -> None:
        self._untaken: list[tuple[int, dict[int, int]]] = [
            (number, table)
            for number, tables in ((generation - 1, old), (generation, young))
            for table in tables
        ]
        self._copied: list[tuple[int, list[int], list[int]]] = []
        """(generation, blocks, masks) of dicts that were copied and not encoded yet."""
        self._changed: deque[Sequence[int]] = deque()
        self._changed_blocks = 0

    def changed(self, blocks: Sequence[int]) -> None:
        """These blocks are not as a slice may have them."""
        self._changed.append(blocks)
        self._changed_blocks += len(blocks)

    def take_next(self, generation: int, young: Table, old: Table) -> bytes | None:
        """A slice of the index as it is now; None when the last one can hold the rest."""
        groups = self._take_tables(generation, SLICE_BLOCKS)
        if not groups and self._changed_blocks > SLICE_BLOCKS:
            groups = self._take_changed(generation, young, old, SLICE_BLOCKS)
        return msgspec.msgpack.encode(groups) if groups else None

    def take_last(self, generation: int, young: Table, old: Table) -> bytes:
        """A slice with all that is left."""
        groups = self._take_tables(generation, 1 << 62)
        groups += self._take_changed(generation, young, old, self._changed_blocks)
        return msgspec.msgpack.encode(groups)

    @staticmethod
    def read(data: bytes) -> Iterator[tuple[int, list[int], list[int]]]:
        """(generation, blocks, their masks) of a slice. GONE: in none."""
        for group in _decode(data):
            masks = [int.from_bytes(mask, "little") for mask in group.masks]
            yield group.generation, group.blocks, [masks[number] for number in group.numbers]

    def _take_tables(self, generation: int, blocks_max: int) -> list[SliceGroup]:
        groups, blocks = [], 0
        while blocks < blocks_max and (self._copied or self._copy_one(generation)):
            number, hashes, masks = self._copied.pop()
            room = blocks_max - blocks
            if len(hashes) > room:
                self._copied.append((number, hashes[room:], masks[room:]))
            groups.append(group_of(number, hashes[:room], masks[:room]))
            blocks += len(groups[-1].blocks)
        return groups

    def _copy_one(self, generation: int) -> bool:
        """Copy the next dict that is not empty; False when there is none."""
        while self._untaken:
            number, table = self._untaken.pop()
            # A generation that is forgotten meanwhile need not be written.
            if table and number >= generation - 1:
                self._copied.append((number, list(table), list(table.values())))
                return True
        return False

    def _take_changed(
        self, generation: int, young: Table, old: Table, blocks_max: int
    ) -> list[SliceGroup]:
        found: dict[int, tuple[list[int], list[int]]] = {
            number: ([], []) for number in (generation, generation - 1, GONE)
        }
        for block in self._some_changed(min(blocks_max, self._changed_blocks)):
            shard = block & (SHARDS - 1)
            if mask := young[shard].get(block, 0):
                number = generation
            elif mask := old[shard].get(block, 0):
                number = generation - 1
            else:
                number = GONE
            blocks, masks = found[number]
            blocks.append(block)
            masks.append(mask)
        return [group_of(number, *both) for number, both in found.items() if both[0]]

    def _some_changed(self, blocks: int) -> Iterator[int]:
        self._changed_blocks -= blocks
        while blocks:
            batch = self._changed.popleft()
            if len(batch) > blocks:
                self._changed.appendleft(batch[blocks:])
                batch = batch[:blocks]
            blocks -= len(batch)
            yield from batch


def group_of(generation: int, blocks: list[int], masks: list[int]) -> SliceGroup:
    """As a slice says it."""
    number_by_mask = {mask: number for number, mask in enumerate(dict.fromkeys(masks))}
    packed = [mask.to_bytes((mask.bit_length() + 7) // 8, "little") for mask in number_by_mask]
    return SliceGroup(generation, blocks, packed, list(map(number_by_mask.__getitem__, masks)))
