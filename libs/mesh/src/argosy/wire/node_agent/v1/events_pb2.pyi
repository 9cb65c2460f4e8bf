from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class NodeReported(_message.Message):
    __slots__ = ("node", "memory_bytes", "promised_bytes", "processes", "silent_bytes", "devices", "devices_held")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROMISED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    SILENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_HELD_FIELD_NUMBER: _ClassVar[int]
    node: str
    memory_bytes: int
    promised_bytes: int
    processes: int
    silent_bytes: int
    devices: int
    devices_held: int
    def __init__(self, node: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., promised_bytes: _Optional[int] = ..., processes: _Optional[int] = ..., silent_bytes: _Optional[int] = ..., devices: _Optional[int] = ..., devices_held: _Optional[int] = ...) -> None: ...

class InstanceStarted(_message.Message):
    __slots__ = ("instance_id", "node", "pid", "restarts", "generation", "epoch")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    pid: int
    restarts: int
    generation: int
    epoch: str
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., pid: _Optional[int] = ..., restarts: _Optional[int] = ..., generation: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class InstanceExited(_message.Message):
    __slots__ = ("instance_id", "node", "pid", "exit_code", "wanted", "generation", "epoch")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    pid: int
    exit_code: int
    wanted: bool
    generation: int
    epoch: str
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., pid: _Optional[int] = ..., exit_code: _Optional[int] = ..., wanted: _Optional[bool] = ..., generation: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class InstanceRefused(_message.Message):
    __slots__ = ("instance_id", "node", "reason", "generation")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    reason: str
    generation: int
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., reason: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class SleepDecisionRefused(_message.Message):
    __slots__ = ("instance_id", "node", "reason", "decision_sequence", "wake")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DECISION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WAKE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    reason: str
    decision_sequence: int
    wake: bool
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., reason: _Optional[str] = ..., decision_sequence: _Optional[int] = ..., wake: _Optional[bool] = ...) -> None: ...
