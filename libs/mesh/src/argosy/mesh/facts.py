"""Facts: protobuf messages with a subject, found by reading the contract itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from urllib.parse import quote

from google.protobuf.message import Message

from argosy.wire.fact.v1 import options_pb2

EVENT_MODULES = (
    "prefill",
    "decode",
    "instance",
    "router",
    "kvstore",
    "node_agent",
    "operator",
    "autoscaler",
)


@dataclass(frozen=True)
class FactType:
    """A fact's message type and how it travels."""

    message: type[Message]
    subject: str
    control: bool
    """On JetStream."""
    key: str
    history: bool = False
    """Late joiners get all of them, not the last one of each key."""


def _modules() -> Iterator[ModuleType]:
    for source in EVENT_MODULES:
        yield import_module(f"argosy.wire.{source}.v1.events_pb2")


@cache
def all_facts() -> tuple[FactType, ...]:
    """Every fact of the contract, in order of the protos."""
    found = []
    for module in _modules():
        for name, descriptor in module.DESCRIPTOR.message_types_by_name.items():
            options = descriptor.GetOptions()
            if options.HasExtension(options_pb2.fact):
                fact = options.Extensions[options_pb2.fact]
                history = fact.plane == options_pb2.PLANE_HISTORY
                control = history or fact.plane == options_pb2.PLANE_CONTROL
                message = getattr(module, name)
                found.append(FactType(message, fact.subject, control, fact.key, history))
    return tuple(found)


def fact_type(message: type[Message]) -> FactType:
    """How facts of this message type travel. KeyError if it is no fact."""
    for fact in all_facts():
        if fact.message is message:
            return fact
    raise KeyError(f"{message.DESCRIPTOR.full_name} has no (argosy.fact.v1.fact) option")


def token(name: str) -> str:
    """A name as one token of a subject: dots, wildcards and spaces percent-encoded."""
    return quote(name, safe="").replace(".", "%2E")


def subject_of(fleet: str, message: Message) -> str:
    """argosy.<fleet>.<source>.<fact>[.<key>]"""
    fact = fact_type(type(message))
    subject = f"argosy.{token(fleet)}.{fact.subject}"
    return f"{subject}.{token(getattr(message, fact.key))}" if fact.key else subject


def pattern_of(fleet: str, message: type[Message]) -> str:
    """The subject filter that matches every fact of this type in the fleet."""
    fact = fact_type(message)
    subject = f"argosy.{token(fleet)}.{fact.subject}"
    return f"{subject}.*" if fact.key else subject
