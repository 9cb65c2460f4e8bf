from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Plane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLANE_UNSPECIFIED: _ClassVar[Plane]
    PLANE_STREAM: _ClassVar[Plane]
    PLANE_CONTROL: _ClassVar[Plane]
    PLANE_HISTORY: _ClassVar[Plane]
PLANE_UNSPECIFIED: Plane
PLANE_STREAM: Plane
PLANE_CONTROL: Plane
PLANE_HISTORY: Plane
FACT_FIELD_NUMBER: _ClassVar[int]
fact: _descriptor.FieldDescriptor

class FactOptions(_message.Message):
    __slots__ = ("subject", "plane", "key")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    subject: str
    plane: Plane
    key: str
    def __init__(self, subject: _Optional[str] = ..., plane: _Optional[_Union[Plane, str]] = ..., key: _Optional[str] = ...) -> None: ...
