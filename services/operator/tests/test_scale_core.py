"""How many there are to be, by an autoscaler: each decision done once, within the file's bounds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.pools import Pool, Template
from argosy.operator.core import effects, events
from argosy.operator.core.operator import SPEC
from argosy.operator.core.state import OperatorState

GIB = 1 << 30
BOUNDS = {"prefill": (0, 1), "decode": (1, 4)}
DECODES = tuple(f"decode-{number}" for number in range(BOUNDS["decode"][1]))


class ScaledOperator:
    """An operator of one node, and what its decisions came to there."""

    def __init__(self) -> None:
        self.now_us = 0
        self.running: set[str] = set()
        self.newest: dict[str, effects.DecideInstance] = {}
        self.restart()

    def restart(self) -> None:
        """Begin with nothing but the node."""
        self.core = SPEC.build(OperatorState())
        self.feed(events.NodeSeen, node="n1", memory_bytes=100 * GIB)

    def feed(self, kind: Any, **fields: Any) -> list[str]:
        """Those decided on. A node acts once per generation, and never on an older one."""
        self.now_us += 1_000_000
        decided = []
        for effect in self.core.step(kind(now_us=self.now_us, **fields)):
            assert isinstance(effect, effects.DecideInstance)
            before = self.newest.get(effect.instance)
            assert before is None or effect.generation > before.generation
            self.newest[effect.instance] = effect
            (self.running.add if effect.run else self.running.discard)(effect.instance)
            decided.append(effect.instance)
        return decided

    def apply(self, generation: int = 1, decode: int = 2) -> list[str]:
        """A fleet file."""
        pools = [
            Pool(Template(role, GIB, 1, {}), replicas)
            for role, replicas in (("prefill", 1), ("decode", decode))
        ]
        return self.feed(events.FleetApplied, generation=generation, pools=pools, bounds=BOUNDS)

    def scale(self, generation: int, decode: int, *stop: str) -> list[str]:
        """A decision on how many decodes there are to be."""
        return self.feed(
            events.ScaleSeen, generation=generation, exist={"decode": decode}, stop=list(stop)
        )

    def recall(self) -> None:
        """What the control log holds of its decisions."""
        for name, last in self.newest.items():
            template = Template(last.role, last.memory_bytes, last.cores, last.settings)
            self.feed(
                events.InstanceDecisionRecalled,
                instance=name,
                run=last.run,
                node="n1",
                template=template,
                generation=last.generation,
            )

    @property
    def decodes(self) -> list[str]:
        """That run."""
        return sorted(self.running - {"prefill-0"})


@pytest.fixture
def operator() -> ScaledOperator:
    found = ScaledOperator()
    found.apply()
    return found


def test_who_is_named_goes_first_and_then_the_highest_numbers(operator: ScaledOperator) -> None:
    operator.scale(1, 4)
    operator.scale(2, 2, "decode-1")
    assert operator.decodes == ["decode-0", "decode-2"]


def test_an_instance_stopped_and_wanted_again_under_one_file_is_decided_on_anew(
    operator: ScaledOperator,
) -> None:
    for generation, count in ((1, 1), (2, 2), (3, 1), (4, 2)):
        assert operator.scale(generation, count) == ["decode-1"]
        assert operator.decodes == list(DECODES[:count])


def test_a_decision_is_kept_to_within_the_file_s_bounds(operator: ScaledOperator) -> None:
    operator.scale(1, 9)
    assert operator.decodes == list(DECODES)
    operator.scale(2, 0)
    assert operator.decodes == ["decode-0"]


def test_an_older_decision_and_the_same_one_again_change_nothing(operator: ScaledOperator) -> None:
    operator.scale(5, 3)
    assert operator.scale(5, 1) == operator.scale(4, 1) == []


def test_a_file_that_asks_for_other_replicas_holds_over_what_was_decided_before(
    operator: ScaledOperator,
) -> None:
    operator.scale(1, 4)
    operator.apply(2, decode=3)
    assert operator.decodes == list(DECODES[:3])
    operator.scale(2, 4)
    assert operator.apply(3, decode=3) == []


@given(
    decisions=st.lists(
        st.tuples(st.integers(0, 6), st.lists(st.sampled_from(DECODES), max_size=2)), max_size=8
    ),
    again=st.integers(0, 7),
)
def test_after_a_restart_nothing_is_undone_and_the_next_decision_is_done(
    decisions: list[tuple[int, list[str]]], again: int
) -> None:
    operator = ScaledOperator()
    operator.apply()
    for generation, (count, stop) in enumerate(decisions, start=1):
        operator.scale(generation, count, *stop)
        if generation == again:
            before = set(operator.running)
            operator.restart()
            operator.recall()
            for earlier, (past, named) in enumerate(decisions[:generation], start=1):
                assert operator.scale(earlier, past, *named) == []
            assert operator.apply() == []
            assert operator.running == before
        low, high = BOUNDS["decode"]
        assert len(operator.decodes) == min(max(count, low), high)
