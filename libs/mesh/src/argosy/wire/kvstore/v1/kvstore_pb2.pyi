from argosy.wire.inference.v1 import inference_pb2 as _inference_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_DRAM: _ClassVar[Tier]
    TIER_SSD: _ClassVar[Tier]
TIER_DRAM: Tier
TIER_SSD: Tier

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("store_id", "epoch", "nixl_metadata")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NIXL_METADATA_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    epoch: str
    nixl_metadata: bytes
    def __init__(self, store_id: _Optional[str] = ..., epoch: _Optional[str] = ..., nixl_metadata: _Optional[bytes] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("keys", "block_bytes", "before")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    block_bytes: int
    before: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., block_bytes: _Optional[int] = ..., before: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("blocks_total", "lease_ms", "blocks", "before_held", "last")
    BLOCKS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_HELD_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    blocks_total: int
    lease_ms: int
    blocks: _containers.RepeatedCompositeFieldContainer[LeasedBlock]
    before_held: int
    last: bool
    def __init__(self, blocks_total: _Optional[int] = ..., lease_ms: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[LeasedBlock, _Mapping]]] = ..., before_held: _Optional[int] = ..., last: _Optional[bool] = ...) -> None: ...

class LeasedBlock(_message.Message):
    __slots__ = ("address", "checksum", "tier")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    address: int
    checksum: int
    tier: Tier
    def __init__(self, address: _Optional[int] = ..., checksum: _Optional[int] = ..., tier: _Optional[_Union[Tier, str]] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("reserve", "commit")
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    reserve: Reserve
    commit: Commit
    def __init__(self, reserve: _Optional[_Union[Reserve, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class Reserve(_message.Message):
    __slots__ = ("lease", "block_bytes", "blocks")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    lease: int
    block_bytes: int
    blocks: _containers.RepeatedCompositeFieldContainer[NewBlock]
    def __init__(self, lease: _Optional[int] = ..., block_bytes: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[NewBlock, _Mapping]]] = ...) -> None: ...

class NewBlock(_message.Message):
    __slots__ = ("key", "parent", "hash", "tokens")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    parent: bytes
    hash: int
    tokens: int
    def __init__(self, key: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., hash: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("lease", "checksums")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    lease: int
    checksums: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, lease: _Optional[int] = ..., checksums: _Optional[_Iterable[int]] = ...) -> None: ...

class PutReply(_message.Message):
    __slots__ = ("granted", "committed")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    granted: Granted
    committed: Committed
    def __init__(self, granted: _Optional[_Union[Granted, _Mapping]] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("lease", "lease_ms", "rooms", "full")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    ROOMS_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    lease: int
    lease_ms: int
    rooms: _containers.RepeatedCompositeFieldContainer[Room]
    full: bool
    def __init__(self, lease: _Optional[int] = ..., lease_ms: _Optional[int] = ..., rooms: _Optional[_Iterable[_Union[Room, _Mapping]]] = ..., full: _Optional[bool] = ...) -> None: ...

class Room(_message.Message):
    __slots__ = ("index", "address")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    index: int
    address: int
    def __init__(self, index: _Optional[int] = ..., address: _Optional[int] = ...) -> None: ...

class Committed(_message.Message):
    __slots__ = ("lease", "stored")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    lease: int
    stored: int
    def __init__(self, lease: _Optional[int] = ..., stored: _Optional[int] = ...) -> None: ...

class SuspectRequest(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SuspectReply(_message.Message):
    __slots__ = ("corrupt",)
    CORRUPT_FIELD_NUMBER: _ClassVar[int]
    corrupt: int
    def __init__(self, corrupt: _Optional[int] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatsReply(_message.Message):
    __slots__ = ("store_id", "epoch", "tiers", "counts", "leases", "ssd_writing", "ssd_trouble")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    SSD_WRITING_FIELD_NUMBER: _ClassVar[int]
    SSD_TROUBLE_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    epoch: str
    tiers: _containers.RepeatedCompositeFieldContainer[TierStats]
    counts: Counts
    leases: int
    ssd_writing: int
    ssd_trouble: str
    def __init__(self, store_id: _Optional[str] = ..., epoch: _Optional[str] = ..., tiers: _Optional[_Iterable[_Union[TierStats, _Mapping]]] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ..., leases: _Optional[int] = ..., ssd_writing: _Optional[int] = ..., ssd_trouble: _Optional[str] = ...) -> None: ...

class TierStats(_message.Message):
    __slots__ = ("tier", "capacity_bytes", "used_bytes", "blocks", "tokens", "hit_blocks", "evicted_blocks", "fetch_ms", "fetch_gb_per_s")
    TIER_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    HIT_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    EVICTED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    FETCH_MS_FIELD_NUMBER: _ClassVar[int]
    FETCH_GB_PER_S_FIELD_NUMBER: _ClassVar[int]
    tier: Tier
    capacity_bytes: int
    used_bytes: int
    blocks: int
    tokens: int
    hit_blocks: int
    evicted_blocks: int
    fetch_ms: float
    fetch_gb_per_s: float
    def __init__(self, tier: _Optional[_Union[Tier, str]] = ..., capacity_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., blocks: _Optional[int] = ..., tokens: _Optional[int] = ..., hit_blocks: _Optional[int] = ..., evicted_blocks: _Optional[int] = ..., fetch_ms: _Optional[float] = ..., fetch_gb_per_s: _Optional[float] = ...) -> None: ...

class Counts(_message.Message):
    __slots__ = ("asked_blocks", "stored_blocks", "refused_blocks", "corrupt_blocks", "expired_leases", "recovered_blocks", "let_go_blocks")
    ASKED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    STORED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_LEASES_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LET_GO_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    asked_blocks: int
    stored_blocks: int
    refused_blocks: int
    corrupt_blocks: int
    expired_leases: int
    recovered_blocks: int
    let_go_blocks: int
    def __init__(self, asked_blocks: _Optional[int] = ..., stored_blocks: _Optional[int] = ..., refused_blocks: _Optional[int] = ..., corrupt_blocks: _Optional[int] = ..., expired_leases: _Optional[int] = ..., recovered_blocks: _Optional[int] = ..., let_go_blocks: _Optional[int] = ...) -> None: ...

class TopRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class TopReply(_message.Message):
    __slots__ = ("prefixes",)
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    prefixes: _containers.RepeatedCompositeFieldContainer[HotPrefix]
    def __init__(self, prefixes: _Optional[_Iterable[_Union[HotPrefix, _Mapping]]] = ...) -> None: ...

class HotPrefix(_message.Message):
    __slots__ = ("hash", "tokens", "blocks", "asked", "dram_blocks", "ssd_blocks", "idle_ms")
    HASH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    DRAM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SSD_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    hash: int
    tokens: int
    blocks: int
    asked: int
    dram_blocks: int
    ssd_blocks: int
    idle_ms: int
    def __init__(self, hash: _Optional[int] = ..., tokens: _Optional[int] = ..., blocks: _Optional[int] = ..., asked: _Optional[int] = ..., dram_blocks: _Optional[int] = ..., ssd_blocks: _Optional[int] = ..., idle_ms: _Optional[int] = ...) -> None: ...

class FlushRequest(_message.Message):
    __slots__ = ("drop",)
    DROP_FIELD_NUMBER: _ClassVar[int]
    drop: bool
    def __init__(self, drop: _Optional[bool] = ...) -> None: ...

class FlushReply(_message.Message):
    __slots__ = ("written_blocks", "dropped_blocks")
    WRITTEN_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    written_blocks: int
    dropped_blocks: int
    def __init__(self, written_blocks: _Optional[int] = ..., dropped_blocks: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyProgress(_message.Message):
    __slots__ = ("total_blocks", "checked_blocks", "corrupt_blocks")
    TOTAL_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CHECKED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    total_blocks: int
    checked_blocks: int
    corrupt_blocks: int
    def __init__(self, total_blocks: _Optional[int] = ..., checked_blocks: _Optional[int] = ..., corrupt_blocks: _Optional[int] = ...) -> None: ...
