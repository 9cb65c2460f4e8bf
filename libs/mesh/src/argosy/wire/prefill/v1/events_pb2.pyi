from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from argosy.wire.inference.v1 import inference_pb2 as _inference_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoadReported(_message.Message):
    __slots__ = ("load",)
    LOAD_FIELD_NUMBER: _ClassVar[int]
    load: _inference_pb2.Load
    def __init__(self, load: _Optional[_Union[_inference_pb2.Load, _Mapping]] = ...) -> None: ...

class IdlePredicted(_message.Message):
    __slots__ = ("instance_id", "epoch", "idle_at_us", "queued_prefill_tokens")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDLE_AT_US_FIELD_NUMBER: _ClassVar[int]
    QUEUED_PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    idle_at_us: int
    queued_prefill_tokens: int
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., idle_at_us: _Optional[int] = ..., queued_prefill_tokens: _Optional[int] = ...) -> None: ...

class KvChanged(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: _inference_pb2.KvChange
    def __init__(self, change: _Optional[_Union[_inference_pb2.KvChange, _Mapping]] = ...) -> None: ...
