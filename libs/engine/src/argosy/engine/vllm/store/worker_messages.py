"""What the store connector's two halves tell each other through vLLM."""

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)
from vllm.v1.kv_cache_interface import KVCacheConfig


@dataclass
class Copy:
    """KV blocks of the engine, and the staging slots they are copied to or from."""

    number: int
    blocks: list[int]
    slots: list[int]


@dataclass
class StoreMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """To the workers, with each step."""

    loads: dict[str, Copy] = field(default_factory=dict)
    """By request; done before the request is scheduled."""
    saves: list[Copy] = field(default_factory=list)
    """After the step has computed them."""
    freed: set[str] = field(default_factory=set)
    """Finished requests all of whose saves are done: their blocks may be freed."""


@dataclass
class StoreDone(KVConnectorWorkerMetadata):  # type: ignore[misc]
    """From the workers: saves that are done, with how many workers say so."""

    saves: dict[int, int] = field(default_factory=dict)

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "StoreDone":
        """Of two workers."""
        assert isinstance(other, StoreDone)
        numbers = [*self.saves, *(number for number in other.saves if number not in self.saves)]
        return StoreDone({n: self.saves.get(n, 0) + other.saves.get(n, 0) for n in numbers})


def shard_bytes(kv_cache: KVCacheConfig) -> int:
    """One worker's part of one KV block, over all layers."""
    return int(sum(t.size for t in kv_cache.kv_cache_tensors) // kv_cache.num_blocks)


def layout_of(kv_cache: KVCacheConfig) -> str:
    """How a block's bytes are laid out: number format, heads, order of dimensions."""
    return f"{kv_cache.kv_cache_layout} {kv_cache.kv_cache_groups[0].kv_cache_spec}"
