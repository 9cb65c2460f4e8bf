"""Messages between the service and the store connector in vLLM's processes."""

import msgspec

from argosy.engine.api import Staged


class StoreSettings(msgspec.Struct, frozen=True):
    """The store connector's settings."""

    model: str
    revision: str
    block_tokens: int
    workers: int
    staging_path: str
    staging_bytes: int
    to_service_endpoint: str
    from_service_endpoint: str


class ServiceMessage(msgspec.Struct):
    """To the service: staged blocks, and names of preloads that are not needed any more."""

    staged: list[Staged] = []
    loaded: list[str] = []
