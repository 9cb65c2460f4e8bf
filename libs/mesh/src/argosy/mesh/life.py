"""States of an instance's life as facts write them, by name (docs/reference/life.md)."""

from argosy.wire.instance.v1 import events_pb2


def state_name(change: events_pb2.Change) -> str:
    """`active`, `silent` and so on; `unspecified` where a fact says nothing."""
    return events_pb2.State.Name(change.state).removeprefix("STATE_").lower()
