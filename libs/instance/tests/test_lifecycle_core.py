"""An instance's life: only what is in its table happens, whatever comes in whatever order."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from suite_plugin import examples

from argosy.domain.core import CancelTimer, Effect, Event, SetTimer, TimerFired
from argosy.domain.lifecycle import (
    FACTS,
    MEANING,
    SLEEP,
    STOP,
    TABLE,
    TURNS,
    WAKE,
    LifecycleState,
    LifecycleStep,
    fact_of,
)
from argosy.instance.lifecycle import effects, events
from argosy.instance.lifecycle.core import LOADS, SPEC, STEP_US, LifecycleCore, LifecycleCoreState
from argosy.wire.instance.v1 import events_pb2 as instance_events
from argosy.wire.node_agent.v1 import events_pb2 as node_events

S = 1_000_000
DRAIN_US = 30 * S
RESTS = (LifecycleState.DRAINING, LifecycleState.SILENT, LifecycleState.WAKING)
PARTS = [*SLEEP, *WAKE]
"""Every step of a sleep and of a wake."""


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


class VirtualInstance:
    """A life's core, and a shell that checks every effect as it performs it."""

    def __init__(self) -> None:
        self.core = SPEC.build(LifecycleCoreState(since_us=1_700_000_000 * S))
        self.twin_state = LifecycleCoreState(since_us=1_700_000_000 * S)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.decision_sequence = 0
        self.doing = ""
        """The step under way."""
        self.done: list[str] = []
        """Steps that have ended."""
        self.heard: list[effects.PublishChange] = []
        self.takes_work = True
        self.cuts = 0
        """Of the drain under way."""
        self.gave_up = ""
        self.may_end = False
        self.ended = False

    @property
    def state(self) -> LifecycleCoreState:
        state = self.core.state
        assert isinstance(state, LifecycleCoreState)
        return state

    @property
    def where(self) -> LifecycleState:
        return self.state.state

    # -- what happens

    def feed(self, kind: type[Event], **fields: Any) -> list[Effect]:
        """One event; a twin that is made anew from the journalled state decides the same."""
        event = kind(now_us=self.now_us, **fields)
        before = self.where
        decided = list(self.core.step(event))
        twin = SPEC.build(round_trip(self.twin_state, SPEC.state))
        assert msgspec.msgpack.encode(list(twin.step(round_trip(event, SPEC.events)))) == (
            msgspec.msgpack.encode(decided)
        )
        self.twin_state = twin.state
        for effect in decided:
            before = self.perform(effect, before)
        assert before is self.where
        return [effect for effect in decided if not isinstance(effect, SetTimer | CancelTimer)]

    def perform(self, effect: Effect, before: LifecycleState) -> LifecycleState:
        match effect:
            case SetTimer():
                assert effect.at_us >= self.now_us
                self.timers[effect.key] = effect.at_us
            case CancelTimer():
                self.timers.pop(effect.key, None)
            case effects.TakeStep():
                assert not self.doing
                self.doing = effect.step
                if effect.step == LifecycleStep.DRAIN:
                    self.takes_work, self.cuts = False, 0
            case effects.AbandonStep():
                assert effect.step == self.doing
                assert effect.step in TURNS
                self.doing = ""
            case effects.AbortWork():
                assert self.doing == LifecycleStep.DRAIN
                self.cuts += 1
            case effects.ResumeWork():
                assert before is LifecycleState.ACTIVE
                self.takes_work = True
            case effects.PublishChange():
                self.tell(effect, before)
                return LifecycleState(effect.state)
            case effects.GiveUp():
                self.gave_up = effect.reason
            case effects.ReportStopped():
                self.may_end = True
        return before

    def tell(self, told: effects.PublishChange, before: LifecycleState) -> None:
        assert FACTS[before, LifecycleState(told.state)] == told.fact
        assert told.change == len(self.heard) + 1
        assert told.took_us >= 0
        assert told.cause
        self.heard.append(round_trip(told, effects.PublishChange))

    def loaded(self) -> list[Effect]:
        return self.feed(events.Loaded)

    def sleep(
        self, decision_sequence: int = 0, cause: str = "idle", drain_us: int = DRAIN_US
    ) -> list[Effect]:
        self.decision_sequence = max(
            self.decision_sequence, decision_sequence or self.decision_sequence + 1
        )
        return self.feed(
            events.SleepRequested,
            decision_sequence=decision_sequence or self.decision_sequence,
            level="dram",
            drain_us=drain_us,
            cause=cause,
        )

    def wake(self, decision_sequence: int = 0, cause: str = "demand") -> list[Effect]:
        self.decision_sequence = max(
            self.decision_sequence, decision_sequence or self.decision_sequence + 1
        )
        return self.feed(
            events.WakeRequested,
            decision_sequence=decision_sequence or self.decision_sequence,
            cause=cause,
        )

    def stop(self) -> list[Effect]:
        return self.feed(events.StopRequested, cause="asked to stop")

    def end_step(self, trouble: str = "") -> list[Effect]:
        step, self.doing = self.doing, ""
        self.done.append(step)
        return self.feed(events.LifecycleStepEnded, step=step, trouble=trouble)

    def end_all(self) -> None:
        """Let steps end until none is under way."""
        for _ in range(len(PARTS) + len(SLEEP)):
            if not self.doing:
                return
            self.end_step()
        pytest.fail("steps without end")

    def until(self, step: LifecycleStep) -> None:
        """Sleep, and if need be wake, until this step is under way."""
        if not self.heard:
            self.loaded()
        self.sleep()
        if step in WAKE:
            self.end_all()
            self.wake()
        while self.doing != step:
            self.end_step()

    def pass_time(self, us: int) -> list[Effect]:
        until_us, found = self.now_us + us, []
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            found += self.feed(TimerFired, key=key)
        self.now_us = until_us
        return found


@pytest.fixture
def life() -> VirtualInstance:
    """One whose process has just started."""
    return VirtualInstance()


def facts(life: VirtualInstance) -> list[str]:
    return [told.fact for told in life.heard]


# -- the table


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.before}-{row.after}")
def test_every_row_of_the_table_is_told_by_a_message_there_is(row: Any) -> None:
    messages = {**instance_events.DESCRIPTOR.message_types_by_name}
    messages.update(node_events.DESCRIPTOR.message_types_by_name)
    assert row.fact in messages
    if row.fact in instance_events.DESCRIPTOR.message_types_by_name:
        assert "change" in messages[row.fact].fields_by_name


def test_no_row_of_the_table_is_there_twice() -> None:
    assert len(FACTS) == len(TABLE)


def test_every_state_has_a_meaning_and_a_number_in_the_contract() -> None:
    assert set(MEANING) == set(LifecycleState)
    in_contract = {name for name in instance_events.State.keys() if "UNSPEC" not in name}  # noqa: SIM118
    assert in_contract == {f"STATE_{state.name}" for state in LifecycleState}


def test_every_state_is_entered_and_left_by_some_row() -> None:
    after = {row.after for row in TABLE}
    before = {row.before for row in TABLE}
    assert before == set(LifecycleState)
    assert after == set(LifecycleState)


def test_a_change_that_is_not_in_the_table_is_refused() -> None:
    missing = [(a, b) for a in LifecycleState for b in LifecycleState if (a, b) not in FACTS]
    assert (LifecycleState.SILENT, LifecycleState.ACTIVE) in missing
    for before, after in missing:
        with pytest.raises(ValueError, match=f"cannot go from {before} to {after}"):
            fact_of(before, after)


# -- sleep and wake


def test_a_sleep_takes_its_steps_in_order_and_tells_at_both_ends(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep()
    assert life.where is LifecycleState.DRAINING
    life.end_all()
    assert life.where is LifecycleState.SILENT
    assert tuple(life.done) == SLEEP
    assert facts(life) == ["InstanceReady", "InstanceDraining", "InstanceSlept"]
    assert [told.cause for told in life.heard[1:]] == ["idle", "idle"]


def test_a_wake_takes_its_steps_in_order_and_takes_work_at_its_end_only(
    life: VirtualInstance,
) -> None:
    life.loaded()
    life.sleep()
    life.end_all()
    life.done.clear()
    life.wake()
    assert life.where is LifecycleState.WAKING
    life.end_all()
    assert (life.where, tuple(life.done)) == (LifecycleState.ACTIVE, WAKE)
    assert facts(life)[-2:] == ["InstanceWaking", "InstanceWoke"]
    assert life.takes_work


def test_a_change_tells_how_long_it_took_from_its_decision_and_each_of_its_steps(
    life: VirtualInstance,
) -> None:
    life.loaded()
    life.sleep()
    for seconds in (4, 3, 2, 1):
        life.pass_time(seconds * S)
        life.end_step()
    slept = life.heard[-1]
    assert slept.took_us == 10 * S
    assert slept.steps_us == [("drain", 4 * S), ("flush", 3 * S), ("withdraw", 2 * S), ("free", S)]


def test_what_the_process_holds_is_told_as_last_read(life: VirtualInstance) -> None:
    life.until(LifecycleStep.FREE)
    life.feed(events.MemoryRead, resident_bytes=123)
    life.end_step()
    assert (life.heard[-1].fact, life.heard[-1].resident_bytes) == ("InstanceSlept", 123)


@pytest.mark.parametrize("level", ["dram", "disk"])
def test_every_step_hears_of_the_level(life: VirtualInstance, level: str) -> None:
    life.loaded()
    taken = life.feed(
        events.SleepRequested, decision_sequence=1, level=level, drain_us=DRAIN_US, cause="idle"
    )
    while life.doing:
        taken += life.end_step()
    assert {step.level for step in taken if isinstance(step, effects.TakeStep)} == {level}
    assert life.heard[-1].level == level


@pytest.mark.parametrize("step", TURNS)
def test_a_wake_ends_a_drain_or_a_flush_at_once(life: VirtualInstance, step: LifecycleStep) -> None:
    life.until(step)
    woken = life.wake()
    assert woken[0] == effects.AbandonStep(step=step)
    assert woken[-1] == effects.ResumeWork()
    assert (life.where, life.doing, life.timers) == (LifecycleState.ACTIVE, "", {})
    assert facts(life)[-1] == "InstanceReady"


@pytest.mark.parametrize("step", [step for step in SLEEP if step not in TURNS])
def test_a_wake_is_carried_out_after_what_cannot_be_undone(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    life.until(step)
    assert life.wake() == []
    assert life.where is LifecycleState.DRAINING
    life.end_all()
    assert life.where is LifecycleState.ACTIVE
    assert facts(life)[-3:] == ["InstanceSlept", "InstanceWaking", "InstanceWoke"]


@pytest.mark.parametrize("step", [step for step in SLEEP if step not in TURNS])
def test_a_change_names_the_decision_that_led_to_it(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    """And not one that came while it was under way."""
    life.until(step)
    slept_by = life.decision_sequence
    life.wake()
    life.end_all()
    slept, waking, woke = life.heard[-3:]
    assert (slept.cause, slept.decision_sequence) == ("idle", slept_by)
    assert {(told.cause, told.decision_sequence) for told in (waking, woke)} == {
        ("demand", life.decision_sequence)
    }


@pytest.mark.parametrize("step", [step for step in SLEEP if step not in TURNS])
def test_a_wake_takes_as_long_as_it_was_waited_for(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    life.until(step)
    life.wake()
    life.pass_time(S)
    life.end_all()
    assert life.heard[-1].took_us == S


@pytest.mark.parametrize("step", WAKE)
def test_a_sleep_lets_a_wake_end_and_follows_it(life: VirtualInstance, step: LifecycleStep) -> None:
    life.until(step)
    assert life.sleep() == []
    life.end_all()
    assert life.where is LifecycleState.SILENT
    assert facts(life)[-3:] == ["InstanceWoke", "InstanceDraining", "InstanceSlept"]


@pytest.mark.parametrize("step", PARTS)
def test_two_decisions_during_a_step_leave_what_the_newer_says(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    life.until(step)
    first, second = (life.wake, life.sleep) if step in SLEEP else (life.sleep, life.wake)
    first()
    second()
    life.end_all()
    assert life.where is (LifecycleState.SILENT if step in SLEEP else LifecycleState.ACTIVE)


@pytest.mark.parametrize("decide", ["sleep", "wake"])
@pytest.mark.parametrize("decision_sequence", [1, 7])
def test_an_older_decision_or_the_same_again_never_undoes_a_newer(
    life: VirtualInstance, decide: str, decision_sequence: int
) -> None:
    life.loaded()
    life.sleep(7)
    life.end_step()
    before = msgspec.msgpack.encode(life.state)
    assert getattr(life, decide)(decision_sequence) == []
    assert msgspec.msgpack.encode(life.state) == before


def test_a_decision_that_changes_nothing_still_outdates_older_ones(life: VirtualInstance) -> None:
    life.loaded()
    assert life.wake(7) == []
    assert life.sleep(6) == []
    assert life.where is LifecycleState.ACTIVE


def test_a_sleep_decided_while_it_loads_is_carried_out_once_it_has(life: VirtualInstance) -> None:
    assert life.sleep() == []
    life.loaded()
    life.end_all()
    assert life.where is LifecycleState.SILENT


def test_a_stale_end_of_a_step_that_was_abandoned_changes_nothing(life: VirtualInstance) -> None:
    life.until(LifecycleStep.FLUSH)
    life.wake()
    before = msgspec.msgpack.encode(life.state)
    assert life.feed(events.LifecycleStepEnded, step=LifecycleStep.FLUSH, trouble="") == []
    assert life.feed(events.LifecycleStepEnded, step=LifecycleStep.FLUSH, trouble="it broke") == []
    assert msgspec.msgpack.encode(life.state) == before


# -- limits


def test_work_is_cut_once_when_the_drain_has_had_its_time(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep()
    assert life.pass_time(DRAIN_US - 1) == []
    assert life.pass_time(1) == [effects.AbortWork()]
    assert effects.AbortWork() not in life.pass_time(DRAIN_US)


def test_a_drain_that_ends_in_time_cuts_nothing(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep()
    life.pass_time(DRAIN_US - 1)
    life.end_step()
    assert life.pass_time(2) == []


def test_a_drain_that_was_turned_round_cuts_nothing_later(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep()
    life.wake()
    assert life.pass_time(10 * DRAIN_US) == []


def test_a_drain_is_cut_once_whatever_is_decided_after_its_time(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep(decision_sequence=1, drain_us=0)
    life.pass_time(1)
    assert life.cuts == 1
    life.sleep(decision_sequence=2, drain_us=0)
    life.pass_time(1)
    assert life.cuts == 1


def test_each_drain_has_its_own_time(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep()
    life.pass_time(DRAIN_US - 1)
    life.wake()
    life.sleep()
    assert life.pass_time(DRAIN_US - 1) == []
    assert life.pass_time(1) == [effects.AbortWork()]


def test_a_newer_sleep_gives_the_drain_under_way_its_own_time(life: VirtualInstance) -> None:
    life.loaded()
    life.sleep(drain_us=100 * DRAIN_US)
    life.sleep(drain_us=S)
    assert life.pass_time(S) == [effects.AbortWork()]


def test_weights_may_take_as_long_to_come_back_as_the_first_load_took_twice(
    life: VirtualInstance,
) -> None:
    life.pass_time(STEP_US)
    life.loaded()
    life.sleep()
    life.end_all()
    life.wake()
    life.pass_time(2 * STEP_US - 1)
    assert not life.gave_up
    life.pass_time(1)
    assert "load" in life.gave_up


@pytest.mark.parametrize("step", PARTS)
def test_a_step_that_fails_gives_the_process_up_and_says_why(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    life.until(step)
    assert life.end_step("the driver is gone") == [
        effects.GiveUp(reason=f"{step} failed: the driver is gone")
    ]


@pytest.mark.parametrize("step", PARTS)
def test_a_step_that_does_not_end_gives_the_process_up(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    life.until(step)
    drain_us = DRAIN_US if step is LifecycleStep.DRAIN else 0
    life.pass_time(drain_us + STEP_US - 1)
    assert not life.gave_up
    life.pass_time(1)
    assert str(step) in life.gave_up


def test_the_time_of_a_step_begins_with_the_step(life: VirtualInstance) -> None:
    life.until(LifecycleStep.FLUSH)
    while life.doing:
        life.pass_time(STEP_US - 1)
        life.end_step()
    assert not life.gave_up
    assert life.where is LifecycleState.SILENT


# -- the end


@pytest.mark.parametrize("step", PARTS)
def test_who_asks_to_stop_during_a_step_is_told_when_it_may_end(
    life: VirtualInstance, step: LifecycleStep
) -> None:
    life.until(step)
    life.stop()
    assert not life.may_end
    life.end_all()
    assert (life.where, life.may_end) == (LifecycleState.STOPPED, True)
    assert facts(life)[-1] == "InstanceStopped"


def test_to_stop_is_to_drain_and_flush(life: VirtualInstance) -> None:
    life.loaded()
    life.stop()
    life.end_all()
    assert (tuple(life.done), life.where, life.may_end) == (STOP, LifecycleState.STOPPED, True)


@pytest.mark.parametrize("at", ["loading", "silent", "stopped"])
def test_who_asks_to_stop_when_there_is_nothing_to_end_is_told_at_once(
    life: VirtualInstance, at: str
) -> None:
    if at != "loading":
        life.loaded()
        life.sleep()
        life.end_all()
    if at == "stopped":
        life.stop()
        life.may_end = False
    life.stop()
    assert life.may_end
    assert not life.doing


def test_a_sleep_under_way_that_became_a_stop_goes_no_further_than_a_stop(
    life: VirtualInstance,
) -> None:
    life.until(LifecycleStep.DRAIN)
    life.stop()
    life.end_all()
    assert tuple(life.done) == STOP


@pytest.mark.parametrize("decide", ["sleep", "wake"])
def test_no_decision_undoes_a_stop(life: VirtualInstance, decide: str) -> None:
    life.loaded()
    life.stop()
    assert getattr(life, decide)() == []
    life.end_all()
    assert life.where is LifecycleState.STOPPED


@pytest.mark.parametrize("step", ["", *PARTS])
def test_a_process_that_ends_says_so_whatever_was_under_way(
    life: VirtualInstance, step: Any
) -> None:
    life.until(step) if step else life.loaded()
    life.doing = ""
    life.feed(events.ProcessEnding)
    assert (life.where, life.may_end, life.timers) == (LifecycleState.STOPPED, True, {})
    assert facts(life)[-1] == "InstanceStopped"
    assert life.pass_time(10 * STEP_US) == []


# -- whatever happens


class AnyLife(RuleBasedStateMachine):
    """Decisions, steps' ends, time and stops, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.life = VirtualInstance()
        self.wanted = LifecycleState.ACTIVE
        """By the newest decision."""
        self.over = False

    def alive(self) -> bool:
        return not (self.over or self.life.gave_up)

    @precondition(lambda self: self.alive() and not self.life.heard)
    @rule()
    def load(self) -> None:
        self.life.loaded()
        assert self.life.heard[0].fact == "InstanceReady"

    @precondition(lambda self: self.alive())
    @rule(
        decision_sequence=st.integers(1, 40),
        wake=st.booleans(),
        drain_us=st.sampled_from([0, S, DRAIN_US]),
    )
    def decide(self, decision_sequence: int, wake: bool, drain_us: int) -> None:
        """As often as not an older one that comes late."""
        life = self.life
        before, newest = msgspec.msgpack.encode(life.state), life.decision_sequence
        where, doing = life.where, life.doing
        done = (
            life.wake(decision_sequence)
            if wake
            else life.sleep(decision_sequence, drain_us=drain_us)
        )
        if decision_sequence <= newest or self.wanted is LifecycleState.STOPPED:
            assert done == []
            assert msgspec.msgpack.encode(life.state) == before
            return
        self.wanted = LifecycleState.ACTIVE if wake else LifecycleState.SILENT
        if not wake or where is not LifecycleState.DRAINING:
            return
        if doing in TURNS:
            assert (life.where, life.doing, life.takes_work) == (LifecycleState.ACTIVE, "", True)
        else:
            assert (done, life.doing) == ([], doing)

    @precondition(lambda self: self.alive() and self.life.doing)
    @rule(fails=st.sampled_from([False] * 9 + [True]))
    def end_step(self, fails: bool) -> None:
        self.life.end_step("it broke" if fails else "")
        assert bool(self.life.gave_up) == fails

    @precondition(lambda self: self.alive())
    @rule(us=st.sampled_from([1, S, DRAIN_US, STEP_US]))
    def pass_time(self, us: int) -> None:
        """A step that takes too long gives up; what ends in time does not."""
        life = self.life
        began_us = life.state.step_us
        limited = life.doing not in ("", LifecycleStep.DRAIN)
        # Weights may take as long again as the first load did, several times over.
        loads_us = LOADS * life.state.load_us if life.doing == LifecycleStep.LOAD else 0
        life.pass_time(us)
        if limited:
            assert bool(life.gave_up) == (life.now_us >= began_us + max(STEP_US, loads_us))

    @precondition(lambda self: self.alive())
    @rule()
    def stop(self) -> None:
        self.life.stop()
        self.wanted = LifecycleState.STOPPED

    @precondition(lambda self: self.alive() and len(self.life.heard) > 3)
    @rule()
    def end(self) -> None:
        self.life.doing = ""
        self.life.feed(events.ProcessEnding)
        self.over = True

    @precondition(lambda self: not self.alive())
    @rule()
    def start_anew(self) -> None:
        """Its node agent starts another process."""
        self.teardown()
        self.life, self.wanted, self.over = VirtualInstance(), LifecycleState.ACTIVE, False

    @invariant()
    def at_most_one_cut_a_drain(self) -> None:
        assert self.life.cuts <= 1

    @invariant()
    def work_is_taken_by_the_active_only(self) -> None:
        life = self.life
        if life.heard and not self.over:
            assert life.takes_work == (life.where is LifecycleState.ACTIVE)

    @invariant()
    def a_step_is_under_way_on_the_way_only(self) -> None:
        life = self.life
        if self.alive():
            assert bool(life.doing) == (
                life.where in (LifecycleState.DRAINING, LifecycleState.WAKING)
            )
            assert bool(life.state.todo) == bool(life.doing)

    @invariant()
    def only_what_is_under_way_has_a_timer(self) -> None:
        assert not self.life.timers or self.life.state.todo

    def teardown(self) -> None:
        """Once steps end, it is what the newest decision wanted."""
        life = self.life
        if self.over:
            assert life.where is LifecycleState.STOPPED or not life.heard
            return
        if not self.alive():
            return
        if not life.heard and self.wanted is not LifecycleState.STOPPED:
            life.loaded()
        life.end_all()
        if self.wanted is LifecycleState.STOPPED:
            assert life.may_end
            assert life.where in (LifecycleState.STOPPED, LifecycleState.LOADING)
        else:
            assert life.where is self.wanted


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=examples(150), stateful_step_count=40)


def test_the_core_is_what_its_spec_builds() -> None:
    assert isinstance(SPEC.build(LifecycleCoreState()), LifecycleCore)
