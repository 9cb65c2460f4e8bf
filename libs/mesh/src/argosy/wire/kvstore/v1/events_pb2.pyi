from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from argosy.wire.kvstore.v1 import kvstore_pb2 as _kvstore_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StoreReported(_message.Message):
    __slots__ = ("store_id", "epoch", "address", "node", "tiers")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    epoch: str
    address: str
    node: str
    tiers: _containers.RepeatedCompositeFieldContainer[_kvstore_pb2.TierStats]
    def __init__(self, store_id: _Optional[str] = ..., epoch: _Optional[str] = ..., address: _Optional[str] = ..., node: _Optional[str] = ..., tiers: _Optional[_Iterable[_Union[_kvstore_pb2.TierStats, _Mapping]]] = ...) -> None: ...

class KvStored(_message.Message):
    __slots__ = ("store_id", "epoch", "tier", "blocks", "change_sequence")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CHANGE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    epoch: str
    tier: _kvstore_pb2.Tier
    blocks: _containers.RepeatedScalarFieldContainer[int]
    change_sequence: int
    def __init__(self, store_id: _Optional[str] = ..., epoch: _Optional[str] = ..., tier: _Optional[_Union[_kvstore_pb2.Tier, str]] = ..., blocks: _Optional[_Iterable[int]] = ..., change_sequence: _Optional[int] = ...) -> None: ...

class KvEvicted(_message.Message):
    __slots__ = ("store_id", "epoch", "tier", "blocks", "change_sequence")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CHANGE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    epoch: str
    tier: _kvstore_pb2.Tier
    blocks: _containers.RepeatedScalarFieldContainer[int]
    change_sequence: int
    def __init__(self, store_id: _Optional[str] = ..., epoch: _Optional[str] = ..., tier: _Optional[_Union[_kvstore_pb2.Tier, str]] = ..., blocks: _Optional[_Iterable[int]] = ..., change_sequence: _Optional[int] = ...) -> None: ...
