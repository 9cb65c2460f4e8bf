from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FleetApplied(_message.Message):
    __slots__ = ("generation", "fleet_yaml", "base_dir", "scaling")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FLEET_YAML_FIELD_NUMBER: _ClassVar[int]
    BASE_DIR_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    generation: int
    fleet_yaml: str
    base_dir: str
    scaling: Scaling
    def __init__(self, generation: _Optional[int] = ..., fleet_yaml: _Optional[str] = ..., base_dir: _Optional[str] = ..., scaling: _Optional[_Union[Scaling, _Mapping]] = ...) -> None: ...

class Scaling(_message.Message):
    __slots__ = ("mode", "pools", "budget", "silent", "idle_sleep_ms", "sleep_level", "ttft_ms", "tpot_ms", "ratio_min", "ratio_max", "plans", "timezone", "dwell_ms")
    MODE_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    IDLE_SLEEP_MS_FIELD_NUMBER: _ClassVar[int]
    SLEEP_LEVEL_FIELD_NUMBER: _ClassVar[int]
    TTFT_MS_FIELD_NUMBER: _ClassVar[int]
    TPOT_MS_FIELD_NUMBER: _ClassVar[int]
    RATIO_MIN_FIELD_NUMBER: _ClassVar[int]
    RATIO_MAX_FIELD_NUMBER: _ClassVar[int]
    PLANS_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    DWELL_MS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    pools: _containers.RepeatedCompositeFieldContainer[PoolBounds]
    budget: int
    silent: int
    idle_sleep_ms: int
    sleep_level: str
    ttft_ms: float
    tpot_ms: float
    ratio_min: float
    ratio_max: float
    plans: _containers.RepeatedScalarFieldContainer[str]
    timezone: str
    dwell_ms: int
    def __init__(self, mode: _Optional[str] = ..., pools: _Optional[_Iterable[_Union[PoolBounds, _Mapping]]] = ..., budget: _Optional[int] = ..., silent: _Optional[int] = ..., idle_sleep_ms: _Optional[int] = ..., sleep_level: _Optional[str] = ..., ttft_ms: _Optional[float] = ..., tpot_ms: _Optional[float] = ..., ratio_min: _Optional[float] = ..., ratio_max: _Optional[float] = ..., plans: _Optional[_Iterable[str]] = ..., timezone: _Optional[str] = ..., dwell_ms: _Optional[int] = ...) -> None: ...

class PoolBounds(_message.Message):
    __slots__ = ("role", "replicas", "min", "max")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    role: str
    replicas: int
    min: int
    max: int
    def __init__(self, role: _Optional[str] = ..., replicas: _Optional[int] = ..., min: _Optional[int] = ..., max: _Optional[int] = ...) -> None: ...

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
