from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DecidedBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECIDED_BY_UNSPECIFIED: _ClassVar[DecidedBy]
    DECIDED_BY_PLAN: _ClassVar[DecidedBy]
    DECIDED_BY_RULE: _ClassVar[DecidedBy]
    DECIDED_BY_MANUAL: _ClassVar[DecidedBy]
DECIDED_BY_UNSPECIFIED: DecidedBy
DECIDED_BY_PLAN: DecidedBy
DECIDED_BY_RULE: DecidedBy
DECIDED_BY_MANUAL: DecidedBy

class ScaleDecided(_message.Message):
    __slots__ = ("id", "generation", "pools", "reason", "advisory", "forecast", "chosen", "rejected", "constraints", "at_us", "load_traceparent")
    ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ADVISORY_FIELD_NUMBER: _ClassVar[int]
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    LOAD_TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    generation: int
    pools: _containers.RepeatedCompositeFieldContainer[PoolDecided]
    reason: str
    advisory: bool
    forecast: ForecastMade
    chosen: Alternative
    rejected: _containers.RepeatedCompositeFieldContainer[Alternative]
    constraints: _containers.RepeatedScalarFieldContainer[str]
    at_us: int
    load_traceparent: str
    def __init__(self, id: _Optional[str] = ..., generation: _Optional[int] = ..., pools: _Optional[_Iterable[_Union[PoolDecided, _Mapping]]] = ..., reason: _Optional[str] = ..., advisory: _Optional[bool] = ..., forecast: _Optional[_Union[ForecastMade, _Mapping]] = ..., chosen: _Optional[_Union[Alternative, _Mapping]] = ..., rejected: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ..., constraints: _Optional[_Iterable[str]] = ..., at_us: _Optional[int] = ..., load_traceparent: _Optional[str] = ...) -> None: ...

class PoolDecided(_message.Message):
    __slots__ = ("role", "awake", "exist", "awake_before", "exist_before", "stop", "wake", "sleep", "at_most")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AWAKE_FIELD_NUMBER: _ClassVar[int]
    EXIST_FIELD_NUMBER: _ClassVar[int]
    AWAKE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXIST_BEFORE_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    WAKE_FIELD_NUMBER: _ClassVar[int]
    SLEEP_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    role: str
    awake: int
    exist: int
    awake_before: int
    exist_before: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    wake: _containers.RepeatedScalarFieldContainer[str]
    sleep: _containers.RepeatedScalarFieldContainer[str]
    at_most: int
    def __init__(self, role: _Optional[str] = ..., awake: _Optional[int] = ..., exist: _Optional[int] = ..., awake_before: _Optional[int] = ..., exist_before: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., wake: _Optional[_Iterable[str]] = ..., sleep: _Optional[_Iterable[str]] = ..., at_most: _Optional[int] = ...) -> None: ...

class ForecastMade(_message.Message):
    __slots__ = ("rate_now", "rate_mean", "rate_upper", "quantile", "ahead_s", "prompt_tokens", "output_tokens", "hit_share", "weights")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RATE_NOW_FIELD_NUMBER: _ClassVar[int]
    RATE_MEAN_FIELD_NUMBER: _ClassVar[int]
    RATE_UPPER_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_FIELD_NUMBER: _ClassVar[int]
    AHEAD_S_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HIT_SHARE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    rate_now: float
    rate_mean: float
    rate_upper: float
    quantile: float
    ahead_s: int
    prompt_tokens: float
    output_tokens: float
    hit_share: float
    weights: _containers.ScalarMap[str, float]
    def __init__(self, rate_now: _Optional[float] = ..., rate_mean: _Optional[float] = ..., rate_upper: _Optional[float] = ..., quantile: _Optional[float] = ..., ahead_s: _Optional[int] = ..., prompt_tokens: _Optional[float] = ..., output_tokens: _Optional[float] = ..., hit_share: _Optional[float] = ..., weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("name", "prefill", "decode", "silent", "cost", "ttft_p90_ms", "tpot_p90_ms", "attained", "rejected")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    TTFT_P90_MS_FIELD_NUMBER: _ClassVar[int]
    TPOT_P90_MS_FIELD_NUMBER: _ClassVar[int]
    ATTAINED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    prefill: int
    decode: int
    silent: int
    cost: float
    ttft_p90_ms: float
    tpot_p90_ms: float
    attained: float
    rejected: str
    def __init__(self, name: _Optional[str] = ..., prefill: _Optional[int] = ..., decode: _Optional[int] = ..., silent: _Optional[int] = ..., cost: _Optional[float] = ..., ttft_p90_ms: _Optional[float] = ..., tpot_p90_ms: _Optional[float] = ..., attained: _Optional[float] = ..., rejected: _Optional[str] = ...) -> None: ...

class SleepDecided(_message.Message):
    __slots__ = ("instance_id", "node", "decision_sequence", "level", "drain_ms", "reason", "decision", "generation", "decided_by")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DECISION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    decision_sequence: int
    level: str
    drain_ms: int
    reason: str
    decision: str
    generation: int
    decided_by: DecidedBy
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., decision_sequence: _Optional[int] = ..., level: _Optional[str] = ..., drain_ms: _Optional[int] = ..., reason: _Optional[str] = ..., decision: _Optional[str] = ..., generation: _Optional[int] = ..., decided_by: _Optional[_Union[DecidedBy, str]] = ...) -> None: ...

class WakeDecided(_message.Message):
    __slots__ = ("instance_id", "node", "decision_sequence", "reason", "decision", "generation", "decided_by")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DECISION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node: str
    decision_sequence: int
    reason: str
    decision: str
    generation: int
    decided_by: DecidedBy
    def __init__(self, instance_id: _Optional[str] = ..., node: _Optional[str] = ..., decision_sequence: _Optional[int] = ..., reason: _Optional[str] = ..., decision: _Optional[str] = ..., generation: _Optional[int] = ..., decided_by: _Optional[_Union[DecidedBy, str]] = ...) -> None: ...

class DemandMeasured(_message.Message):
    __slots__ = ("start_us", "seconds", "requests", "prompt_tokens", "prompt_tokens_squared", "cached_tokens", "finished", "output_tokens", "output_tokens_squared")
    START_US_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_SQUARED_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_SQUARED_FIELD_NUMBER: _ClassVar[int]
    start_us: int
    seconds: int
    requests: float
    prompt_tokens: float
    prompt_tokens_squared: float
    cached_tokens: float
    finished: float
    output_tokens: float
    output_tokens_squared: float
    def __init__(self, start_us: _Optional[int] = ..., seconds: _Optional[int] = ..., requests: _Optional[float] = ..., prompt_tokens: _Optional[float] = ..., prompt_tokens_squared: _Optional[float] = ..., cached_tokens: _Optional[float] = ..., finished: _Optional[float] = ..., output_tokens: _Optional[float] = ..., output_tokens_squared: _Optional[float] = ...) -> None: ...

class PlanChanged(_message.Message):
    __slots__ = ("name", "text", "removed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    removed: bool
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., removed: _Optional[bool] = ...) -> None: ...

class ScalerReported(_message.Message):
    __slots__ = ("scaler", "mode", "generation", "signals")
    SCALER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    scaler: str
    mode: str
    generation: int
    signals: str
    def __init__(self, scaler: _Optional[str] = ..., mode: _Optional[str] = ..., generation: _Optional[int] = ..., signals: _Optional[str] = ...) -> None: ...
