"""What facts say of instances: states by name (docs/reference/lifecycle.md), timing."""

from argosy.domain.timing import Timing
from argosy.wire.instance.v1 import events_pb2


def state_name(change: events_pb2.Change) -> str:
    """`active`, `silent` and so on; `unspecified` where a fact says nothing."""
    return events_pb2.State.Name(change.state).removeprefix("STATE_").lower()


def timing_of(fact: events_pb2.InstanceReady) -> Timing | None:
    """What the instance says of its steps; None if it says nothing, or half of it."""
    timing = fact.timing
    shapes = (len(timing.prefill_ms), len(timing.decode_ms), len(timing.transfer_gb_per_s))
    if not fact.HasField("timing") or shapes != (3, 3, 3):
        return None
    return Timing(
        (timing.prefill_ms[0], timing.prefill_ms[1], timing.prefill_ms[2]),
        (timing.decode_ms[0], timing.decode_ms[1], timing.decode_ms[2]),
        timing.decode_ms_per_request,
        timing.kv_bytes_per_token,
        timing.transfer_ms,
        (timing.transfer_gb_per_s[0], timing.transfer_gb_per_s[1], timing.transfer_gb_per_s[2]),
    )
