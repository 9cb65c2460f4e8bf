from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class FleetApplied(_message.Message):
    __slots__ = ("generation", "fleet_yaml", "base_dir")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FLEET_YAML_FIELD_NUMBER: _ClassVar[int]
    BASE_DIR_FIELD_NUMBER: _ClassVar[int]
    generation: int
    fleet_yaml: str
    base_dir: str
    def __init__(self, generation: _Optional[int] = ..., fleet_yaml: _Optional[str] = ..., base_dir: _Optional[str] = ...) -> None: ...

class InstanceDecided(_message.Message):
    __slots__ = ("instance_id", "generation", "run", "node", "role", "memory_bytes", "cpu", "settings", "reason", "devices")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    generation: int
    run: bool
    node: str
    role: str
    memory_bytes: int
    cpu: float
    settings: _containers.ScalarMap[str, str]
    reason: str
    devices: int
    def __init__(self, instance_id: _Optional[str] = ..., generation: _Optional[int] = ..., run: _Optional[bool] = ..., node: _Optional[str] = ..., role: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., cpu: _Optional[float] = ..., settings: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ..., devices: _Optional[int] = ...) -> None: ...

class SleepDecided(_message.Message):
    __slots__ = ("instance_id", "node", "turn", "level", "drain_ms", "reason")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    turn: int
    level: str
    drain_ms: int
    reason: str
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., turn: _Optional[int] = ..., level: _Optional[str] = ..., drain_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class WakeDecided(_message.Message):
    __slots__ = ("instance_id", "node", "turn", "reason")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    turn: int
    reason: str
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., turn: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
