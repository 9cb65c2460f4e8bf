"""Segments of the workload: what can be told of a block when it is asked for.

Its kind: how often it was asked for (2, 3-4, 5-8, ...), or if for the first time, how
often the block above it was: 1 in a prompt that is all new, 2 behind a first answer, many
behind a system prompt. The end of a prompt is a kind by itself: the next turn goes on
from the block before it, as a rule.
Its size: how many blocks of the prompt were new. Who brings much that is new seldom comes
back for it; and a prompt that adds a lot to a known one often only shares it.
"""

ABOVES = 5
ASKED_AGAINS = 8
KINDS = 1 + ABOVES + ASKED_AGAINS
SIZES = 10
END = 0


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
