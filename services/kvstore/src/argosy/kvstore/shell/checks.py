"""Checks of what callers send, before the core sees it."""

from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.kv_blocks import KEY_BYTES

BLOCKS_MAX = 65_536
"""In one call: two million tokens in blocks of 32, more than any model's context."""
BLOCK_BYTES_MIN = 512
"""A segment of smaller blocks would have so many slots that cutting it takes seconds."""


def check_keys(keys: list[bytes]) -> None:
    """Raise BAD_REQUEST for what is no key, or for too many."""
    if len(keys) > BLOCKS_MAX:
        message = f"{len(keys)} blocks in one call; at most {BLOCKS_MAX}"
        raise ArgosyError(Reason.BAD_REQUEST, message)
    if len(set(keys)) < len(keys):
        raise ArgosyError(Reason.BAD_REQUEST, "a block is named twice in one call")
    if wrong := [key for key in keys if len(key) != KEY_BYTES]:
        message = f"a key has {KEY_BYTES} bytes, this one {len(wrong[0])}"
        raise ArgosyError(Reason.BAD_REQUEST, message)


def check_block_bytes(block_bytes: int) -> None:
    """Raise BAD_REQUEST for a block that is too small."""
    if block_bytes < BLOCK_BYTES_MIN:
        message = f"block_bytes is {block_bytes}; at least {BLOCK_BYTES_MIN}"
        raise ArgosyError(Reason.BAD_REQUEST, message)
