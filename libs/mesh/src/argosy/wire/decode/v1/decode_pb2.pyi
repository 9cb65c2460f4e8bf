from argosy.wire.inference.v1 import inference_pb2 as _inference_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("ticket", "prompt")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ticket: _inference_pb2.SignedTicket
    prompt: _inference_pb2.Prompt
    def __init__(self, ticket: _Optional[_Union[_inference_pb2.SignedTicket, _Mapping]] = ..., prompt: _Optional[_Union[_inference_pb2.Prompt, _Mapping]] = ...) -> None: ...
