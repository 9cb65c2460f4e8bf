"""A tier's room, as segments that are each cut into slots of one size.

Models' blocks differ in size. A segment serves one size at a time, and may be cut for another
once nothing is left in it.
"""

from collections.abc import Collection

import msgspec

PAGE_BYTES = 4096


class Slots(msgspec.Struct):
    """`segments` of `segment_bytes` each; offsets count from the tier's start."""

    segment_bytes: int
    segments: int
    uncut: list[int] = []
    """Segments without slots, the next to be cut last."""
    sizes: dict[int, int] = {}
    """Segments that are cut, with the size of their slots."""
    taken: dict[int, int] = {}
    """Slots taken, by segment."""
    empty: dict[int, None] = {}
    """Segments that are cut, with no slot taken."""
    free: dict[int, list[int]] = {}
    """Offsets of free slots, by size."""
    used_bytes: int = 0

    @property
    def capacity_bytes(self) -> int:
        """How many bytes of slots there can be at most."""
        return self.segments * self.segment_bytes

    def most(self, size: int) -> int:
        """How many slots of this size there would be at most."""
        return self.segments * (self.segment_bytes // size)

    def room(self, size: int) -> int:
        """How many slots of this size there are without evicting anything."""
        per_segment = self.segment_bytes // size
        others = sum(1 for segment in self.empty if self.sizes[segment] != size)
        return len(self.free.get(size, ())) + (len(self.uncut) + others) * per_segment

    def take(self, size: int) -> int | None:
        """The offset of a free slot; None when there is none."""
        free = self.free.get(size)
        if not free:
            if not self._cut(size):
                return None
            free = self.free[size]
        offset = free.pop()
        segment = self.segment_of(offset)
        self.empty.pop(segment, None)
        self.taken[segment] += 1
        self.used_bytes += size
        return offset

    def give(self, offset: int) -> None:
        """The slot is free again."""
        segment = self.segment_of(offset)
        size = self.sizes[segment]
        self.taken[segment] -= 1
        if not self.taken[segment]:
            self.empty[segment] = None
        self.used_bytes -= size
        self.free[size].append(offset)

    def adopt(self, segment: int, size: int, held: Collection[int]) -> None:
        """Take a segment of an earlier process as it is: cut into slots of that size, some held."""
        self.uncut.remove(segment)
        self._cut_at(segment, size)
        held = set(held)
        self.free[size] = [offset for offset in self.free[size] if offset not in held]
        self.taken[segment] = len(held)
        self.used_bytes += len(held) * size
        if held:
            del self.empty[segment]

    def segment_of(self, offset: int) -> int:
        """Which segment a slot is in."""
        return offset // self.segment_bytes

    def _cut(self, size: int) -> bool:
        if size <= 0 or size > self.segment_bytes:
            return False
        if not self.uncut:
            other = next((s for s in self.empty if self.sizes[s] != size), None)
            if other is None:
                return False
            self._uncut(other)
        self._cut_at(self.uncut.pop(), size)
        return True

    def _cut_at(self, segment: int, size: int) -> None:
        start = segment * self.segment_bytes
        offsets = range(start, start + self.segment_bytes - size + 1, size)
        self.sizes[segment], self.taken[segment], self.empty[segment] = size, 0, None
        self.free.setdefault(size, []).extend(reversed(offsets))

    def _uncut(self, segment: int) -> None:
        size = self.sizes.pop(segment)
        del self.taken[segment], self.empty[segment]
        self.free[size] = [o for o in self.free[size] if self.segment_of(o) != segment]
        self.uncut.append(segment)


def new_slots(capacity_bytes: int, segment_bytes: int) -> Slots:
    """Room for `capacity_bytes`, in equal segments of `segment_bytes` at most."""
    segments = -(-capacity_bytes // segment_bytes) if segment_bytes else 0
    segment_bytes = capacity_bytes // segments if segments else 1
    return Slots(segment_bytes, segments, list(reversed(range(segments))))


def ssd_slot_bytes(block_bytes: int) -> int:
    """A page for a block's header, and whole pages for its bytes."""
    return PAGE_BYTES + -(-block_bytes // PAGE_BYTES) * PAGE_BYTES
