"""Names for KV blocks that a trace does not name itself."""

import numpy as np
import numpy.typing as npt


def split_blocks(hash_ids: list[int], parts: int) -> list[int]:
    """Each block as `parts` smaller ones, in order, named by 64-bit hashes.

    Equal ids give equal parts; parts of different ids are as unlikely to meet as any hashes.
    """
    # Mixed before the part is added, so that ids may be small numbers or hashes themselves.
    whole = _mix(np.array(hash_ids, np.uint64))
    parted: list[int] = _mix((whole[:, None] + np.arange(parts, dtype=np.uint64)).ravel()).tolist()
    return parted


def unique_blocks(first: int, count: int) -> list[int]:
    """`count` 64-bit hashes, never met again if the next call's `first` is past this one's."""
    hashes: list[int] = _mix(np.arange(first, first + count, dtype=np.uint64)).tolist()
    return hashes


def _mix(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread numbers over 64 bits, no two alike: one step of splitmix64."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
