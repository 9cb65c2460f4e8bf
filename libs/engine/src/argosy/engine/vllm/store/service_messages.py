"""What the service and the store connector in vLLM's processes tell each other."""

import msgspec

from argosy.engine.api import Staged


class StoreSettings(msgspec.Struct, frozen=True):
    """What the service tells its engine core of the store."""

    model: str
    revision: str
    block_tokens: int
    workers: int
    staging_path: str
    staging_bytes: int
    tell_endpoint: str
    hear_endpoint: str


class ServiceMessage(msgspec.Struct):
    """To the service: blocks in staging slots, and requests that need their preload no more."""

    staged: list[Staged] = []
    loaded: list[str] = []
