from argosy.wire.instance.v1 import events_pb2 as _events_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SleepRequest(_message.Message):
    __slots__ = ("decision_sequence", "level", "drain_ms", "cause")
    DECISION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    decision_sequence: int
    level: str
    drain_ms: int
    cause: str
    def __init__(self, decision_sequence: _Optional[int] = ..., level: _Optional[str] = ..., drain_ms: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class WakeRequest(_message.Message):
    __slots__ = ("decision_sequence", "cause")
    DECISION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    decision_sequence: int
    cause: str
    def __init__(self, decision_sequence: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class LifecycleReply(_message.Message):
    __slots__ = ("change", "epoch")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    change: _events_pb2.Change
    epoch: str
    def __init__(self, change: _Optional[_Union[_events_pb2.Change, _Mapping]] = ..., epoch: _Optional[str] = ...) -> None: ...
