from argosy.wire.fact.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestsDispatched(_message.Message):
    __slots__ = ("router", "dispatched", "ended")
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    router: str
    dispatched: _containers.RepeatedCompositeFieldContainer[Dispatched]
    ended: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, router: _Optional[str] = ..., dispatched: _Optional[_Iterable[_Union[Dispatched, _Mapping]]] = ..., ended: _Optional[_Iterable[str]] = ...) -> None: ...

class Dispatched(_message.Message):
    __slots__ = ("request_id", "prefill", "prefill_dp_rank", "decode", "decode_dp_rank", "prompt_tokens", "uncached_tokens", "tenant", "blocks")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    PREFILL_DP_RANK_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_DP_RANK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    UNCACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prefill: str
    prefill_dp_rank: int
    decode: str
    decode_dp_rank: int
    prompt_tokens: int
    uncached_tokens: int
    tenant: str
    blocks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request_id: _Optional[str] = ..., prefill: _Optional[str] = ..., prefill_dp_rank: _Optional[int] = ..., decode: _Optional[str] = ..., decode_dp_rank: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., uncached_tokens: _Optional[int] = ..., tenant: _Optional[str] = ..., blocks: _Optional[_Iterable[int]] = ...) -> None: ...

class QueueReported(_message.Message):
    __slots__ = ("router", "model", "queued_requests", "queued_tokens", "oldest_wait_ms", "running_requests", "arrived_requests", "rejected_requests", "at_us", "busy_requests", "traffic", "epoch")
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    BUSY_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    router: str
    model: str
    queued_requests: int
    queued_tokens: int
    oldest_wait_ms: int
    running_requests: int
    arrived_requests: int
    rejected_requests: int
    at_us: int
    busy_requests: int
    traffic: Traffic
    epoch: str
    def __init__(self, router: _Optional[str] = ..., model: _Optional[str] = ..., queued_requests: _Optional[int] = ..., queued_tokens: _Optional[int] = ..., oldest_wait_ms: _Optional[int] = ..., running_requests: _Optional[int] = ..., arrived_requests: _Optional[int] = ..., rejected_requests: _Optional[int] = ..., at_us: _Optional[int] = ..., busy_requests: _Optional[int] = ..., traffic: _Optional[_Union[Traffic, _Mapping]] = ..., epoch: _Optional[str] = ...) -> None: ...

class Traffic(_message.Message):
    __slots__ = ("requests", "prompt_tokens", "prompt_tokens_squared", "cached_tokens", "started_requests", "ttft_buckets")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_SQUARED_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TTFT_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    prompt_tokens: int
    prompt_tokens_squared: float
    cached_tokens: int
    started_requests: int
    ttft_buckets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, requests: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., prompt_tokens_squared: _Optional[float] = ..., cached_tokens: _Optional[int] = ..., started_requests: _Optional[int] = ..., ttft_buckets: _Optional[_Iterable[int]] = ...) -> None: ...

class DemandSeen(_message.Message):
    __slots__ = ("router", "model", "queued_requests", "queued_tokens", "oldest_wait_ms")
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    router: str
    model: str
    queued_requests: int
    queued_tokens: int
    oldest_wait_ms: int
    def __init__(self, router: _Optional[str] = ..., model: _Optional[str] = ..., queued_requests: _Optional[int] = ..., queued_tokens: _Optional[int] = ..., oldest_wait_ms: _Optional[int] = ...) -> None: ...
