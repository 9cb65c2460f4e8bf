from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.core import Effect
from argosy.domain.pools import Pool, Template
from argosy.operator.core import effects, events
from argosy.operator.core.operator import SPEC, OperatorCore, OperatorState

GIB = 1 << 30


class Operator:
    """An operator's core that has seen one node of 100 GiB, unless told otherwise."""

    def __init__(self, nodes_gib: dict[str, int] | None = None) -> None:
        self.state = OperatorState()
        self.core = OperatorCore(self.state)
        self.now_us = 0
        for node, gib in ({"n1": 100} if nodes_gib is None else nodes_gib).items():
            self.see(node, gib)

    def feed(self, kind: Any, **fields: Any) -> list[effects.DecideInstance]:
        self.now_us += 1_000_000
        decided = self.core.step(kind(now_us=self.now_us, **fields))
        return [effect for effect in decided if isinstance(effect, effects.DecideInstance)]

    def see(self, node: str, gib: int) -> list[effects.DecideInstance]:
        return self.feed(events.NodeSeen, node=node, memory_bytes=gib * GIB)

    def apply(
        self, generation: int, prefill: int = 1, decode: int = 1, *, gib: int = 1, model: str = "m"
    ) -> list[effects.DecideInstance]:
        return self.feed(
            events.FleetApplied, generation=generation, pools=pools(prefill, decode, gib, model)
        )

    def hear(
        self, instance: str, state: str, reason: str = "", restarts: int = -1, at_us: int = 0
    ) -> None:
        self.feed(
            events.InstanceChanged,
            instance=instance,
            state=state,
            reason=reason,
            restarts=restarts,
            at_us=at_us,
        )

    def recall(self, decision: effects.DecideInstance) -> None:
        template = Template(decision.role, decision.memory_bytes, decision.cores, decision.settings)
        self.feed(
            events.InstanceDecisionRecalled,
            instance=decision.instance,
            run=decision.run,
            node=decision.node,
            template=template,
        )


def pools(prefill: int, decode: int, gib: int = 1, model: str = "m") -> list[Pool]:
    return [
        Pool(Template(role, gib * GIB, 1, {"model": model}), replicas)
        for role, replicas in (("prefill", prefill), ("decode", decode))
    ]


def runs(decisions: list[effects.DecideInstance]) -> dict[str, bool]:
    return {decision.instance: decision.run for decision in decisions}


@pytest.fixture
def operator() -> Operator:
    return Operator()


def test_every_instance_the_file_asks_for_is_decided(operator: Operator) -> None:
    decisions = operator.apply(1, prefill=1, decode=2)
    assert runs(decisions) == {"prefill-0": True, "decode-0": True, "decode-1": True}
    (prefill,) = [decision for decision in decisions if decision.role == "prefill"]
    assert (prefill.generation, prefill.node, prefill.memory_bytes) == (1, "n1", GIB)
    assert (prefill.cores, prefill.settings) == (1, {"model": "m"})


def test_scaling_up_adds_instances_and_leaves_those_that_run_alone(operator: Operator) -> None:
    operator.apply(1, decode=1)
    assert runs(operator.apply(2, decode=3)) == {"decode-1": True, "decode-2": True}


def test_scaling_down_stops_the_last_instances_only(operator: Operator) -> None:
    operator.apply(1, decode=3)
    assert runs(operator.apply(2, decode=1)) == {"decode-1": False, "decode-2": False}


def test_an_instance_scaled_away_and_back_is_started_where_it_was() -> None:
    operator = Operator({"n1": 1, "n2": 100})
    operator.apply(1, prefill=0, decode=1)
    operator.apply(2, prefill=0, decode=0)
    operator.see("n3", 1000)
    (back,) = operator.apply(3, prefill=0, decode=1)
    assert (back.run, back.node, back.generation) == (True, "n2", 3)


def test_a_changed_pool_is_replaced_where_it_runs(operator: Operator) -> None:
    operator.apply(1, model="m")
    decisions = operator.apply(2, model="k")
    assert runs(decisions) == {"prefill-0": True, "decode-0": True}
    assert {(d.generation, d.node, d.settings["model"]) for d in decisions} == {(2, "n1", "k")}


def test_the_same_file_again_changes_nothing(operator: Operator) -> None:
    operator.apply(1)
    assert operator.apply(2) == []


@pytest.mark.parametrize("generation", [1, 2])
def test_a_file_of_an_older_or_the_same_generation_is_ignored(
    operator: Operator, generation: int
) -> None:
    operator.apply(2, decode=2)
    assert operator.apply(generation, decode=0) == []
    assert operator.state.generation == 2


def test_instances_wait_for_a_node_and_say_so() -> None:
    operator = Operator({})
    assert operator.apply(1) == []
    shown = operator.state.instances["decode-0"]
    assert (shown.state, shown.reason) == ("pending", "no node is known yet")
    assert runs(operator.see("n2", 10)) == {"prefill-0": True, "decode-0": True}
    assert (shown.state, shown.reason) == ("pending", "decided")


def test_an_instance_goes_to_the_node_with_the_most_memory_left() -> None:
    operator = Operator({"n1": 10, "n2": 12})
    decisions = operator.apply(1, prefill=0, decode=3, gib=4)
    assert [decision.node for decision in decisions] == ["n2", "n1", "n2"]


def test_a_node_gets_back_what_was_scaled_away() -> None:
    operator = Operator({"n1": 9, "n2": 10})
    operator.apply(1, prefill=0, decode=2, gib=4)
    operator.apply(2, prefill=0, decode=1, gib=4)
    (placed,) = operator.apply(3, prefill=1, decode=1, gib=4)
    assert (placed.instance, placed.node) == ("prefill-0", "n1")


def test_a_node_seen_again_gets_nothing_twice(operator: Operator) -> None:
    operator.apply(1)
    assert operator.see("n1", 100) == []
    assert operator.see("n1", 200) == []


def test_what_became_of_an_instance_is_shown(operator: Operator) -> None:
    operator.apply(1)
    operator.hear("decode-0", "failed", "exit code -9")
    operator.hear("decode-0", "loading", "its process started", restarts=1)
    assert operator.state.instances["decode-0"].reason == "its process started"
    operator.hear("decode-0", "active")
    became_ready_us = operator.now_us
    operator.hear("decode-0", "active")
    shown = operator.state.instances["decode-0"]
    assert (shown.state, shown.reason, shown.restarts) == ("active", "", 1)
    assert shown.since_us == became_ready_us


def test_news_that_was_overtaken_does_not_hide_what_is(operator: Operator) -> None:
    operator.apply(1)
    operator.hear("decode-0", "active", at_us=30)
    operator.hear("decode-0", "draining", "asked to stop", at_us=20)
    assert operator.state.instances["decode-0"].state == "active"


def test_a_replaced_instance_is_shown_as_pending(operator: Operator) -> None:
    operator.apply(1, model="m")
    operator.hear("decode-0", "active")
    operator.apply(2, model="k")
    shown = operator.state.instances["decode-0"]
    assert (shown.state, shown.reason) == ("pending", "decided")


def test_news_of_an_instance_nobody_asked_for_is_ignored(operator: Operator) -> None:
    operator.hear("decode-7", "active")
    assert operator.state.instances == {}


def test_a_restarted_operator_leaves_what_runs_alone() -> None:
    """Else a second `apply` and a restart would end every answer under way."""
    before = Operator({"n1": 10, "n2": 12})
    decisions = [*before.apply(1, decode=1), *before.apply(2, decode=2)]
    after = Operator({"n1": 10, "n2": 12})
    for decision in decisions:
        after.recall(decision)
    assert after.apply(2, decode=2) == []
    assert placement(after.state) == placement(before.state)


def test_a_restarted_operator_makes_up_for_what_was_not_decided() -> None:
    before, after = Operator(), Operator()
    for decision in before.apply(1, decode=2):
        after.recall(decision)
    assert runs(after.apply(2, decode=1)) == {"decode-1": False}


def test_a_decision_that_comes_back_from_the_log_changes_nothing(operator: Operator) -> None:
    decisions = operator.apply(1)
    operator.hear("decode-0", "active")
    before = msgspec.msgpack.encode(operator.state)
    for decision in decisions:
        operator.recall(decision)
    assert msgspec.msgpack.encode(operator.state) == before


def placement(state: OperatorState) -> dict[str, tuple[bool, str]]:
    return {name: (i.wanted, i.node) for name, i in state.instances.items()}


# -- whatever happens

sizes = st.integers(0, 3)
happened = st.one_of(
    st.builds(
        lambda g, p, d, m: (events.FleetApplied, g, pools(p, d, 1, m)),
        st.integers(1, 9),
        sizes,
        sizes,
        st.sampled_from("mk"),
    ),
    st.builds(
        lambda node, gib: (events.NodeSeen, node, gib * GIB),
        st.sampled_from(["n1", "n2"]),
        st.integers(1, 9),
    ),
    st.builds(
        lambda role, index, state: (events.InstanceChanged, f"{role}-{index}", state, "", -1),
        st.sampled_from(["prefill", "decode"]),
        sizes,
        st.sampled_from(["active", "failed"]),
    ),
)


@given(sequence=st.lists(happened, max_size=20), data=st.data())
def test_the_last_decisions_are_what_the_newest_file_asks_for(
    sequence: list[Any], data: st.DataObject
) -> None:
    """And a twin that starts from the encoded state, at any point, decides the same."""
    core, newest, asked, seen = SPEC.build(OperatorState()), 0, {}, False
    cut = data.draw(st.integers(0, len(sequence)))
    twin, last = core, dict[str, effects.DecideInstance]()
    for number, (kind, *fields) in enumerate(sequence):
        if number == cut:
            state = msgspec.msgpack.encode(core.state)
            twin = SPEC.build(msgspec.msgpack.decode(state, type=SPEC.state))
        event = kind(**dict(zip(kind.__struct_fields__, (number, *fields), strict=False)))
        decided = core.step(event)
        assert twin is core or same(twin.step(event), decided)
        seen = seen or kind is events.NodeSeen
        if kind is events.FleetApplied and fields[0] > newest:
            newest, asked = fields[0], wanted_by(fields[1])
        for decision in decided:
            before = last.get(decision.instance)
            assert before is None or before.generation < decision.generation
            last[decision.instance] = decision
    running = {name: decision.settings["model"] for name, decision in last.items() if decision.run}
    assert running == (asked if seen else {})


def same(left: list[Effect], right: list[Effect]) -> bool:
    return msgspec.msgpack.encode(left) == msgspec.msgpack.encode(right)


def wanted_by(asked: list[Pool]) -> dict[str, str]:
    return {
        f"{pool.template.role}-{index}": pool.template.settings["model"]
        for pool in asked
        for index in range(pool.replicas)
    }
