"""Whatever happens to a fleet without a plan: what its decisions on sleep always are."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.autoscaler import SPEC
from argosy.autoscaler.core.planning.idle_sleep import STAY_US

MS, S = 1_000, 1_000_000
IDLE_US = 5 * S
REPORT_US = 500 * MS

instances = st.sampled_from(["decode-0", "decode-1", "prefill-0"])
things = st.one_of(
    st.tuples(
        st.just("hear"),
        instances,
        st.sampled_from(["loading", "active", "draining", "silent", "waking", "failed"]),
    ),
    st.tuples(st.just("work"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("demand")),
    st.tuples(st.just("ask"), instances, st.booleans()),
    st.tuples(st.just("refuse")),
    st.tuples(st.just("wait"), st.sampled_from([MS, REPORT_US, 2 * S, 10 * S])),
)


def happen(fleet: Any, kind: str, given_: list[Any], last: list[Any]) -> list[Any]:
    """Let it happen; what is decided."""
    match kind:
        case "hear" if given_[1] == "loading":
            fleet.loads(given_[0])
            return []
        case "hear" if given_[1] == "failed":
            return list(fleet.by_node(*given_))
        case "hear":
            return list(fleet.hear(*given_))
        case "work":
            return list(fleet.work(sum(given_), queued=given_[1]))
        case "demand":
            return list(fleet.demand())
        case "ask":
            name, wake = given_
            return list(fleet.ask_wake(name) if wake else fleet.ask_sleep(name))
        case "refuse" if last:
            return list(fleet.refuse(last.pop(), "no"))
        case "wait":
            fleet.now_us += given_[0]
    return []


@settings(max_examples=150, deadline=None)
@given(sequence=st.lists(things, max_size=60))
def test_whatever_happens_decisions_are_newer_each_time_and_never_for_those_who_work(
    new_idle_fleet: Any, sequence: list[Any]
) -> None:
    """And a twin that starts from the encoded state before each event decides the same."""
    fleet = new_idle_fleet(decode=2, prefill=1)
    twin = new_idle_fleet(decode=2, prefill=1)
    sequences: dict[str, int] = {}
    last: list[Any] = []
    busy_us = fleet.now_us
    for kind, *given_ in sequence:
        image = msgspec.msgpack.encode(fleet.state)
        twin.core = SPEC.build(msgspec.msgpack.decode(image, type=SPEC.state))
        twin.now_us, twin.arrived = fleet.now_us, fleet.arrived
        twin.changes, twin.epochs = dict(fleet.changes), dict(fleet.epochs)
        again = happen(twin, kind, given_, list(last))
        found = happen(fleet, kind, given_, last)
        assert again == found
        for decision in found:
            assert decision.decision_sequence > sequences.get(decision.instance, 0)
            sequences[decision.instance] = decision.decision_sequence
            if isinstance(decision, effects.DecideSleep) and kind != "ask":
                instance = fleet.instance(decision.instance)
                assert kind == "work"
                assert fleet.now_us - busy_us >= IDLE_US
                assert instance.state == "active"
                assert fleet.now_us - instance.since_us >= STAY_US
        if kind == "demand" or (kind == "work" and sum(given_)):
            busy_us = fleet.now_us
        last = found or last
