from argosy.wire.autoscaler.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SleepRequest(_message.Message):
    __slots__ = ("instance_ids", "level", "drain_ms")
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    level: str
    drain_ms: int
    def __init__(self, instance_ids: _Optional[_Iterable[str]] = ..., level: _Optional[str] = ..., drain_ms: _Optional[int] = ...) -> None: ...

class SleepReply(_message.Message):
    __slots__ = ("instance_ids",)
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instance_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class WakeRequest(_message.Message):
    __slots__ = ("instance_ids",)
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instance_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class WakeReply(_message.Message):
    __slots__ = ("instance_ids",)
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instance_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class SleepStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SleepStatusReply(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[InstanceSleep]
    def __init__(self, instances: _Optional[_Iterable[_Union[InstanceSleep, _Mapping]]] = ...) -> None: ...

class InstanceSleep(_message.Message):
    __slots__ = ("instance_id", "told_to_sleep", "decided_by", "refused")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TOLD_TO_SLEEP_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    told_to_sleep: bool
    decided_by: _events_pb2.DecidedBy
    refused: str
    def __init__(self, instance_id: _Optional[str] = ..., told_to_sleep: _Optional[bool] = ..., decided_by: _Optional[_Union[_events_pb2.DecidedBy, str]] = ..., refused: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("mode", "generation", "signals", "last", "ahead", "recent", "slots")
    MODE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    generation: int
    signals: str
    last: _events_pb2.ScaleDecided
    ahead: _containers.RepeatedCompositeFieldContainer[Ahead]
    recent: _containers.RepeatedCompositeFieldContainer[_events_pb2.ScaleDecided]
    slots: int
    def __init__(self, mode: _Optional[str] = ..., generation: _Optional[int] = ..., signals: _Optional[str] = ..., last: _Optional[_Union[_events_pb2.ScaleDecided, _Mapping]] = ..., ahead: _Optional[_Iterable[_Union[Ahead, _Mapping]]] = ..., recent: _Optional[_Iterable[_Union[_events_pb2.ScaleDecided, _Mapping]]] = ..., slots: _Optional[int] = ...) -> None: ...

class Ahead(_message.Message):
    __slots__ = ("start_us", "rate_mean", "rate_upper", "prefill", "decode")
    START_US_FIELD_NUMBER: _ClassVar[int]
    RATE_MEAN_FIELD_NUMBER: _ClassVar[int]
    RATE_UPPER_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    start_us: int
    rate_mean: float
    rate_upper: float
    prefill: int
    decode: int
    def __init__(self, start_us: _Optional[int] = ..., rate_mean: _Optional[float] = ..., rate_upper: _Optional[float] = ..., prefill: _Optional[int] = ..., decode: _Optional[int] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ExplainReply(_message.Message):
    __slots__ = ("decision", "outcomes")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    decision: _events_pb2.ScaleDecided
    outcomes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, decision: _Optional[_Union[_events_pb2.ScaleDecided, _Mapping]] = ..., outcomes: _Optional[_Iterable[str]] = ...) -> None: ...

class AddPlanRequest(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class RemovePlanRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListPlansRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPlansReply(_message.Message):
    __slots__ = ("plans",)
    PLANS_FIELD_NUMBER: _ClassVar[int]
    plans: _containers.RepeatedCompositeFieldContainer[Plan]
    def __init__(self, plans: _Optional[_Iterable[_Union[Plan, _Mapping]]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("name", "text", "source", "from_us", "until_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    source: str
    from_us: int
    until_us: int
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., source: _Optional[str] = ..., from_us: _Optional[int] = ..., until_us: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("since_us",)
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    since_us: int
    def __init__(self, since_us: _Optional[int] = ...) -> None: ...
