"""A part of a prompt's KV on its way from one store."""

import asyncio
from dataclasses import dataclass


@dataclass
class KvLoad:
    """What is wanted, and how far it has come: filled in as it goes, whatever becomes of it."""

    before: list[bytes]
    """Blocks of the chain before `keys` that this store should have."""
    keys: list[bytes]
    slots: list[int]
    """Where each of the keys goes."""
    until_s: float
    """By the loop's clock."""
    blocks: int = 0
    """Leading ones of `keys` that have come, whole and checked."""
    before_held: int = -1
    """Leading ones of `before` that the store has; -1: it did not say."""
    settled: "asyncio.Future[str] | None" = None
    """Until it is done, bytes may still reach the slots."""
