from argosy.wire.inference.v1 import inference_pb2 as _inference_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandoffRequest(_message.Message):
    __slots__ = ("claim", "pulled")
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    PULLED_FIELD_NUMBER: _ClassVar[int]
    claim: Claim
    pulled: Pulled
    def __init__(self, claim: _Optional[_Union[Claim, _Mapping]] = ..., pulled: _Optional[_Union[Pulled, _Mapping]] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("request_id", "attempt")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempt: int
    def __init__(self, request_id: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class Pulled(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HandoffOffer(_message.Message):
    __slots__ = ("prompt", "kv_handle", "cached_tokens", "kv_blocks", "queue_ms", "compute_ms")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    KV_HANDLE_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    prompt: _inference_pb2.Prompt
    kv_handle: bytes
    cached_tokens: int
    kv_blocks: int
    queue_ms: int
    compute_ms: int
    def __init__(self, prompt: _Optional[_Union[_inference_pb2.Prompt, _Mapping]] = ..., kv_handle: _Optional[bytes] = ..., cached_tokens: _Optional[int] = ..., kv_blocks: _Optional[int] = ..., queue_ms: _Optional[int] = ..., compute_ms: _Optional[int] = ...) -> None: ...
