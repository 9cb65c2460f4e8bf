from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_PREFILL: _ClassVar[Role]
    ROLE_DECODE: _ClassVar[Role]
    ROLE_KVSTORE: _ClassVar[Role]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_PENDING: _ClassVar[State]
    STATE_LOADING: _ClassVar[State]
    STATE_ACTIVE: _ClassVar[State]
    STATE_DRAINING: _ClassVar[State]
    STATE_SILENT: _ClassVar[State]
    STATE_WAKING: _ClassVar[State]
    STATE_STOPPED: _ClassVar[State]
    STATE_FAILED: _ClassVar[State]
ROLE_UNSPECIFIED: Role
ROLE_PREFILL: Role
ROLE_DECODE: Role
ROLE_KVSTORE: Role
STATE_UNSPECIFIED: State
STATE_PENDING: State
STATE_LOADING: State
STATE_ACTIVE: State
STATE_DRAINING: State
STATE_SILENT: State
STATE_WAKING: State
STATE_STOPPED: State
STATE_FAILED: State

class InstanceReady(_message.Message):
    __slots__ = ("instance_id", "epoch", "role", "address", "node", "model", "block_tokens", "kv_total_blocks", "max_model_tokens", "max_running_requests", "dp_ranks", "tokens_per_step", "rack", "timing", "change", "requests_max")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_TOTAL_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    DP_RANKS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_MAX_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    role: Role
    address: str
    node: str
    model: str
    block_tokens: int
    kv_total_blocks: int
    max_model_tokens: int
    max_running_requests: int
    dp_ranks: int
    tokens_per_step: int
    rack: str
    timing: Timing
    change: Change
    requests_max: int
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., address: _Optional[str] = ..., node: _Optional[str] = ..., model: _Optional[str] = ..., block_tokens: _Optional[int] = ..., kv_total_blocks: _Optional[int] = ..., max_model_tokens: _Optional[int] = ..., max_running_requests: _Optional[int] = ..., dp_ranks: _Optional[int] = ..., tokens_per_step: _Optional[int] = ..., rack: _Optional[str] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., change: _Optional[_Union[Change, _Mapping]] = ..., requests_max: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("state", "number", "cause", "decision_sequence", "took_ms", "steps", "resident_bytes", "level")
    STATE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    DECISION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    state: State
    number: int
    cause: str
    decision_sequence: int
    took_ms: int
    steps: _containers.RepeatedCompositeFieldContainer[StepTaken]
    resident_bytes: int
    level: str
    def __init__(self, state: _Optional[_Union[State, str]] = ..., number: _Optional[int] = ..., cause: _Optional[str] = ..., decision_sequence: _Optional[int] = ..., took_ms: _Optional[int] = ..., steps: _Optional[_Iterable[_Union[StepTaken, _Mapping]]] = ..., resident_bytes: _Optional[int] = ..., level: _Optional[str] = ...) -> None: ...

class StepTaken(_message.Message):
    __slots__ = ("name", "ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ms: int
    def __init__(self, name: _Optional[str] = ..., ms: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("prefill_ms", "decode_ms", "decode_ms_per_request", "kv_bytes_per_token", "transfer_ms", "transfer_gb_per_s")
    PREFILL_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_GB_PER_S_FIELD_NUMBER: _ClassVar[int]
    prefill_ms: _containers.RepeatedScalarFieldContainer[float]
    decode_ms: _containers.RepeatedScalarFieldContainer[float]
    decode_ms_per_request: float
    kv_bytes_per_token: int
    transfer_ms: float
    transfer_gb_per_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, prefill_ms: _Optional[_Iterable[float]] = ..., decode_ms: _Optional[_Iterable[float]] = ..., decode_ms_per_request: _Optional[float] = ..., kv_bytes_per_token: _Optional[int] = ..., transfer_ms: _Optional[float] = ..., transfer_gb_per_s: _Optional[_Iterable[float]] = ...) -> None: ...

class InstanceDraining(_message.Message):
    __slots__ = ("instance_id", "epoch", "change")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    change: Change
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class InstanceSlept(_message.Message):
    __slots__ = ("instance_id", "epoch", "change")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    change: Change
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class InstanceWaking(_message.Message):
    __slots__ = ("instance_id", "epoch", "change")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    change: Change
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class InstanceWoke(_message.Message):
    __slots__ = ("instance_id", "epoch", "change")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    change: Change
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class InstanceStopped(_message.Message):
    __slots__ = ("instance_id", "epoch", "change")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: str
    change: Change
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[str] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...
