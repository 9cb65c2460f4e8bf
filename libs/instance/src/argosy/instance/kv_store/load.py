"""The load of a part of a prompt's KV from one store."""

import asyncio
from dataclasses import dataclass


@dataclass
class KvLoad:
    """What is to be loaded, and how much of it has come. Filled in as blocks come."""

    before: list[bytes]
    """Blocks of the chain before `keys` that this store should have."""
    keys: list[bytes]
    slots: list[int]
    """Where each of the keys goes."""
    until_s: float
    """By the loop's clock."""
    blocks: int = 0
    """How many of `keys`, from the first on, have come and match their checksums."""
    before_held: int = -1
    """How many of `before`, from the first on, the store has; -1: it did not say."""
    settled: "asyncio.Future[str] | None" = None
    """Until it is done, bytes may still reach the slots."""
