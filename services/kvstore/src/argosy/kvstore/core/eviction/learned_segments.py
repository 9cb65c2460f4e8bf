"""Segments of the workload: what a request says of a block.

A segment is a kind and a size. The kind says how often the block was requested (2, 3-4, 5-8, ...).
If this is the first time, it says how often the block before it was: 1 in a prompt that is all
new, 2 after a first answer, many after a system prompt. The last block of a prompt is a kind by
itself: as a rule the next turn of a conversation continues the block before it.
The size says how many blocks of the prompt were new. Prompts that bring much that is new are
seldom continued; and a prompt that adds much to a known one often shares only its beginning.
"""

ABOVES = 5
"""Kinds of blocks requested once, by requests for the block before: 1, 2, 3-4, 5-8, more."""
ASKED_AGAINS = 8
"""Kinds of blocks requested again: 2, 3-4, 5-8, ..., and more than 128 times."""
KINDS = 1 + ABOVES + ASKED_AGAINS
SIZES = 10
"""New blocks of the prompt: 0, 1, 2-3, 4-7, ..., and 256 or more."""
END = 0
"""The kind of a prompt's last block."""


def kind_of(asks: int, asks_above: int, *, is_end: bool) -> int:
    """From 0 to KINDS - 1. `asks_above` is 0 for the first block of a prompt."""
    if asks > 1:
        return ABOVES + min(ASKED_AGAINS, (asks - 1).bit_length())
    if is_end:
        return END
    return 1 + min(ABOVES - 1, (max(asks_above, 1) - 1).bit_length())


def size_of(new_blocks: int) -> int:
    """From 0 to SIZES - 1: 0, 1, 2-3, 4-7, ..."""
    return min(SIZES - 1, new_blocks.bit_length())
