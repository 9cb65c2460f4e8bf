from argosy.wire.instance.v1 import events_pb2 as _events_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SleepRequest(_message.Message):
    __slots__ = ("turn", "level", "drain_ms", "cause")
    TURN_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    turn: int
    level: str
    drain_ms: int
    cause: str
    def __init__(self, turn: _Optional[int] = ..., level: _Optional[str] = ..., drain_ms: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class WakeRequest(_message.Message):
    __slots__ = ("turn", "cause")
    TURN_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    turn: int
    cause: str
    def __init__(self, turn: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class LifeReply(_message.Message):
    __slots__ = ("change", "epoch")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    change: _events_pb2.Change
    epoch: str
    def __init__(self, change: _Optional[_Union[_events_pb2.Change, _Mapping]] = ..., epoch: _Optional[str] = ...) -> None: ...
