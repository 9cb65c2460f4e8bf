"""Who may sleep and wake on a node: the silent pool, its sums, and what is never exceeded."""

from typing import Any

import msgspec
import pytest

from argosy.domain.core import CancelTimer, Effect, SetTimer
from argosy.node_agent.core import effects, events, sleep
from argosy.node_agent.core.node import SPEC
from argosy.node_agent.core.state import NodeState, Process, ProcessPhase

S, GIB = 1_000_000, 1 << 30
GRACE_US, DRAIN_US = 40 * S, 30 * S


class SleepingNode:
    """A node's core, and instances on it that tell of their lives when a test says so."""

    def __init__(self, gib: int = 10, devices: int = 0, **pool: int) -> None:
        self.state = NodeState(gib * GIB, [0], GRACE_US, list(range(devices)), **pool)
        self.core = SPEC.build(self.state)
        self.now_us = 1_700_000_000 * S
        self.decision_sequence = 0
        self.pids = 0

    def feed(self, kind: Any, **fields: Any) -> list[Effect]:
        decided = self.core.step(kind(now_us=self.now_us, **fields))
        return [effect for effect in decided if not isinstance(effect, SetTimer | CancelTimer)]

    def want(self, name: str, gib: float, devices: int = 0, generation: int = 1) -> list[Effect]:
        return self.feed(
            events.ProcessWanted,
            name=name,
            generation=generation,
            memory_bytes=round(gib * GIB),
            cores=0,
            devices=devices,
        )

    def unwant(self, name: str, generation: int = 2) -> list[Effect]:
        return self.feed(events.ProcessUnwanted, name=name, generation=generation)

    def started(self, name: str) -> list[Effect]:
        self.pids += 1
        return self.feed(events.ProcessStarted, name=name, pid=self.pids, epoch=f"e{self.pids}")

    def run(self, name: str, gib: float, devices: int = 0) -> None:
        """Awake, on devices of its own."""
        self.want(name, gib, devices)
        self.started(name)
        assert self.process(name).phase is ProcessPhase.RUNNING

    def rest(self, name: str, gib: float, resident: float = 1, devices: int = 0) -> None:
        """Run it, and let it sleep."""
        self.run(name, gib, devices)
        assert self.sleep(name)
        self.slept(name, resident)

    def sleep(self, name: str, decision_sequence: int = 0) -> list[Effect]:
        self.decision_sequence += 1
        return self.feed(
            events.SleepDecided,
            name=name,
            decision_sequence=decision_sequence or self.decision_sequence,
            level="dram",
            drain_us=DRAIN_US,
            cause="idle",
        )

    def wake(self, name: str, decision_sequence: int = 0) -> list[Effect]:
        self.decision_sequence += 1
        return self.feed(
            events.WakeDecided,
            name=name,
            decision_sequence=decision_sequence or self.decision_sequence,
            cause="demand",
        )

    def tell(self, name: str, state: str, resident: float = 0, change: int = 0) -> list[Effect]:
        process = self.process(name)
        return self.feed(
            events.LifecycleChanged,
            name=name,
            epoch=process.epoch,
            change=change or max(0, process.lifecycle.newest.change) + 1,
            state=state,
            resident_bytes=round(resident * GIB),
        )

    def drains(self, name: str) -> list[Effect]:
        return self.tell(name, "draining")

    def slept(self, name: str, resident: float = 1) -> list[Effect]:
        return self.drains(name) + self.tell(name, "silent", resident)

    def woke(self, name: str) -> list[Effect]:
        return self.tell(name, "waking") + self.tell(name, "active")

    def exited(self, name: str, code: int = -9) -> list[Effect]:
        return self.feed(
            events.ProcessExited, name=name, pid=self.process(name).pid, exit_code=code
        )

    def process(self, name: str) -> Process:
        return self.state.processes[name]

    def held_gib(self, name: str) -> float:
        return self.process(name).held_bytes / GIB


def woken(decided: list[Effect]) -> list[str]:
    return [effect.name for effect in decided if isinstance(effect, effects.WakeUp)]


def refusal(decided: list[Effect]) -> effects.AnnounceSleepDecisionRefused:
    (found,) = [
        effect for effect in decided if isinstance(effect, effects.AnnounceSleepDecisionRefused)
    ]
    return found


def started_by(decided: list[Effect]) -> list[str]:
    return [effect.name for effect in decided if isinstance(effect, effects.StartProcess)]


# -- decisions


def test_a_decision_reaches_the_instance_as_it_was_made() -> None:
    node = SleepingNode()
    node.run("a", 4)
    assert node.sleep("a") == [
        effects.PutToSleep(
            name="a", decision_sequence=1, level="dram", drain_us=DRAIN_US, cause="idle"
        )
    ]
    node.slept("a")
    assert node.wake("a") == [effects.WakeUp(name="a", decision_sequence=2, cause="demand")]


@pytest.mark.parametrize("decision_sequence", [6, 7])
@pytest.mark.parametrize("decide", ["sleep", "wake"])
@pytest.mark.parametrize("last", ["sleep", "wake"])
def test_decisions_of_old_turns_are_ignored(last: str, decide: str, decision_sequence: int) -> None:
    node = SleepingNode()
    node.run("a", 4)
    getattr(node, last)("a", decision_sequence=7)
    before = msgspec.msgpack.encode(node.state)
    assert getattr(node, decide)("a", decision_sequence=decision_sequence) == []
    assert msgspec.msgpack.encode(node.state) == before


@pytest.mark.parametrize("decide", ["sleep", "wake"])
def test_a_decision_on_what_is_not_here_is_ignored(decide: str) -> None:
    node = SleepingNode()
    assert getattr(node, decide)("b") == []
    assert node.state.processes == {}


@pytest.mark.parametrize("decide", ["sleep", "wake"])
@pytest.mark.parametrize("phase", ["starting", "stopping", "stopped", "refused"])
def test_only_what_runs_is_asked_to_sleep_or_to_wake(decide: str, phase: str) -> None:
    node = SleepingNode()
    node.want("a", 40 if phase == "refused" else 4)
    if phase in ("stopping", "stopped"):
        node.started("a")
        node.unwant("a")
    if phase == "stopped":
        node.exited("a")
    assert node.process("a").phase == phase
    assert getattr(node, decide)("a") == []


def test_news_of_another_life_of_its_process_changes_nothing() -> None:
    node = SleepingNode()
    node.run("a", 4)
    before = msgspec.msgpack.encode(node.state)
    assert (
        node.feed(
            events.LifecycleChanged,
            name="a",
            epoch="e0",
            change=9,
            state="silent",
            resident_bytes=GIB,
        )
        == []
    )
    assert (
        node.feed(
            events.LifecycleChanged,
            name="b",
            epoch="e1",
            change=9,
            state="silent",
            resident_bytes=GIB,
        )
        == []
    )
    assert msgspec.msgpack.encode(node.state) == before


def test_news_that_was_overtaken_does_not_undo_what_is() -> None:
    node = SleepingNode()
    node.run("a", 4)
    node.tell("a", "silent", resident=1, change=3)
    assert node.tell("a", "draining", change=2) == []
    assert (node.process("a").sleep_state, node.held_gib("a")) == ("silent", 1)


# -- what who holds


def test_who_sleeps_holds_what_it_was_read_to_hold() -> None:
    node = SleepingNode()
    node.rest("a", 6, resident=1.5)
    assert node.held_gib("a") == 1.5
    assert started_by(node.want("b", 8.5)) == ["b"]


def test_who_sleeps_never_holds_more_than_it_was_promised() -> None:
    node = SleepingNode()
    node.rest("a", 6, resident=7)
    assert node.held_gib("a") == 6


@pytest.mark.parametrize("state", ["draining", "waking", "active"])
def test_who_is_awake_or_on_its_way_holds_all_it_was_promised(state: str) -> None:
    node = SleepingNode()
    node.rest("a", 6)
    if state == "draining":
        node.wake("a")
        node.woke("a")
        node.sleep("a")
        node.drains("a")
    else:
        node.wake("a")
        assert node.held_gib("a") == 6
        node.tell("a", state)
    assert node.held_gib("a") == 6


def test_who_sleeps_leaves_its_devices_to_others_and_comes_back_to_them() -> None:
    node = SleepingNode(devices=1)
    node.rest("a", 2, devices=1)
    node.rest("b", 2, devices=1)
    assert node.process("a").devices_assigned == node.process("b").devices_assigned == [0]
    assert woken(node.wake("a")) == ["a"]
    assert sleep.holders(node.state, [0]) == {0: "a"}


def test_a_new_process_takes_the_device_with_the_fewest_sleepers() -> None:
    node = SleepingNode(gib=100, devices=2)
    node.rest("a", 2, devices=1)
    node.want("b", 2, devices=1)
    assert node.process("b").devices_assigned == [1]


def test_a_process_that_needs_a_device_is_refused_while_all_are_held() -> None:
    node = SleepingNode(devices=1)
    node.run("a", 2, devices=1)
    refused = node.want("b", 2, devices=1)
    assert "b needs 1 devices; of this node's 1 0 are free" in getattr(refused[0], "reason", "")


@pytest.mark.parametrize("resident", [1, 2])
def test_a_process_refused_for_want_of_a_device_starts_when_one_sleeps(resident: int) -> None:
    """Even if host memory holds as much as before: weights may be kept there."""
    node = SleepingNode(devices=1)
    node.run("a", 2, devices=1)
    node.want("b", 2, devices=1)
    node.sleep("a")
    assert started_by(node.slept("a", resident)) == ["b"]


def test_a_successor_promised_more_holds_nothing_more_before_it_starts() -> None:
    """What runs tells that it drains, for it is to stop; that is no promise of the new sum."""
    node = SleepingNode()
    node.run("a", 2)
    node.run("b", 6)
    node.want("a", 9, generation=2)
    node.drains("a")
    assert (node.held_gib("a"), node.state.promised_bytes) == (2, 8 * GIB)


def test_a_successor_promised_less_leaves_nothing_free_before_it_starts() -> None:
    node = SleepingNode()
    node.run("a", 6)
    node.want("a", 1, generation=2)
    node.drains("a")
    assert started_by(node.want("b", 6)) == []
    assert node.held_gib("a") == 6


# -- waking


def test_a_wake_that_fits_exactly_goes_at_once() -> None:
    node = SleepingNode()
    node.rest("a", 6, resident=1)
    node.run("b", 4)
    assert woken(node.wake("a")) == ["a"]


def test_a_wake_without_room_is_refused_with_a_sum_that_names_holders() -> None:
    node = SleepingNode()
    node.rest("a", 6, resident=1)
    node.run("b", 3)
    node.run("c", 2)
    refused = refusal(node.wake("a"))
    assert (refused.name, refused.decision_sequence, refused.wake) == (
        "a",
        node.decision_sequence,
        True,
    )
    assert "a needs 5.0 GiB more to wake (6.0, of which it holds 1.0)" in refused.reason
    assert "of this node's 10.0 GiB 4.0 are free" in refused.reason
    assert "(promised: a 1.0, b 3.0, c 2.0)" in refused.reason
    assert (node.process("a").waits, node.held_gib("a")) == ("", 1)


def test_a_wake_without_its_device_is_refused_and_names_who_holds_it() -> None:
    node = SleepingNode(devices=2)
    node.rest("a", 2, devices=2)
    node.run("b", 2, devices=1)
    refused = refusal(node.wake("a"))
    assert "a needs what is held: device 0 by b" in refused.reason


@pytest.mark.parametrize("ends", ["slept", "exited"])
def test_a_wake_waits_for_room_that_is_coming_and_goes_the_moment_it_is_there(ends: str) -> None:
    node = SleepingNode(devices=1)
    node.rest("a", 6, devices=1)
    node.run("b", 6, devices=1)
    if ends == "slept":
        node.sleep("b")
        node.drains("b")
    else:
        node.unwant("b")
    assert node.wake("a") == []
    last = node.tell("b", "silent", resident=1) if ends == "slept" else node.exited("b", 0)
    assert woken(last) == ["a"]
    assert refusal_or_none(last) is None


def refusal_or_none(decided: list[Effect]) -> effects.AnnounceSleepDecisionRefused | None:
    found = [
        effect for effect in decided if isinstance(effect, effects.AnnounceSleepDecisionRefused)
    ]
    return found[0] if found else None


def test_a_wake_that_waits_is_refused_once_the_room_does_not_come() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    node.run("b", 6)
    node.sleep("b")
    node.drains("b")
    assert node.wake("a") == []
    assert "a needs 5.0 GiB more" in refusal(node.tell("b", "active")).reason


def test_a_wake_that_waits_for_one_that_is_replaced_in_its_place_is_refused() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    node.run("b", 6)
    node.want("b", 6, generation=2)
    assert node.wake("a") == []
    assert "a needs 5.0 GiB more" in refusal(node.exited("b", 0)).reason


def test_room_that_is_coming_but_not_enough_is_a_refusal() -> None:
    node = SleepingNode()
    node.rest("a", 8)
    node.run("b", 4)
    node.run("c", 4)
    node.sleep("b")
    node.drains("b")
    assert refusal(node.wake("a")).wake


def test_of_wakes_that_wait_the_one_decided_first_goes_first() -> None:
    node = SleepingNode()
    node.rest("z", 6)
    node.rest("a", 6)
    node.run("b", 8)
    node.sleep("b")
    node.drains("b")
    assert node.wake("z") == node.wake("a") == []
    found = node.tell("b", "silent", resident=1)
    assert woken(found) == ["z"]
    assert refusal(found).name == "a"


def test_a_wake_that_waits_goes_before_a_process_that_was_refused() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    node.run("b", 6)
    node.want("c", 6)
    node.sleep("b")
    node.drains("b")
    node.wake("a")
    found = node.tell("b", "silent", resident=1)
    assert (woken(found), started_by(found)) == (["a"], [])


def test_a_sleep_decided_meanwhile_ends_the_waiting() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    node.run("b", 6)
    node.sleep("b")
    node.drains("b")
    node.wake("a")
    assert node.sleep("a") == []
    assert node.tell("b", "silent", resident=1) == []


def test_what_is_to_stop_is_not_woken_any_more() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    node.run("b", 6)
    node.sleep("b")
    node.drains("b")
    node.wake("a")
    node.unwant("a")
    assert node.tell("b", "silent", resident=1) == []


def test_a_wake_of_one_on_its_way_to_sleep_turns_it_round_without_more_room() -> None:
    node = SleepingNode()
    node.run("a", 10)
    node.sleep("a")
    node.drains("a")
    assert woken(node.wake("a")) == ["a"]


def test_one_that_falls_asleep_although_it_was_woken_keeps_its_room() -> None:
    """The wake came when its memory was half gone: it will be back at once."""
    node = SleepingNode(devices=1)
    node.rest("b", 6, devices=1)
    node.run("a", 6, devices=1)
    node.sleep("a")
    node.drains("a")
    assert woken(node.wake("a")) == ["a"]
    node.wake("b")
    assert woken(node.tell("a", "silent", resident=1)) == []
    node.tell("a", "waking")
    assert node.state.promised_bytes <= node.state.memory_bytes
    assert sleep.holders(node.state, [0]) == {0: "a"}


def test_one_that_falls_asleep_although_it_was_woken_leaves_no_room_to_a_new_process() -> None:
    node = SleepingNode()
    node.run("a", 6)
    node.want("c", 6)
    node.sleep("a")
    node.drains("a")
    node.wake("a")
    assert started_by(node.tell("a", "silent", resident=1)) == []
    node.tell("a", "waking")
    assert node.state.promised_bytes <= node.state.memory_bytes


# -- the silent pool


def test_the_silent_budget_refuses_with_the_sum() -> None:
    node = SleepingNode(gib=100, silent_bytes=5 * GIB)
    node.rest("a", 4, resident=3)
    node.wake("a")
    node.woke("a")
    node.rest("b", 4, resident=3)
    refused = refusal(node.sleep("a"))
    assert (refused.name, refused.decision_sequence, refused.wake) == (
        "a",
        node.decision_sequence,
        False,
    )
    assert "a would hold 3.0 GiB asleep" in refused.reason
    assert "of the silent pool's 5.0 GiB 3.0 are held by b" in refused.reason


def test_what_fits_the_silent_budget_exactly_may_sleep() -> None:
    node = SleepingNode(gib=100, silent_bytes=4 * GIB)
    node.rest("a", 4, resident=2)
    node.wake("a")
    node.woke("a")
    node.rest("b", 4, resident=2)
    assert refusal_or_none(node.sleep("a")) is None


def test_two_that_go_to_sleep_at_once_keep_to_the_silent_budget_together() -> None:
    node = SleepingNode(gib=100, silent_bytes=3 * GIB)
    for name in ("a", "b"):
        node.rest(name, 4, resident=2)
        node.wake(name)
        node.woke(name)
    assert refusal_or_none(node.sleep("a")) is None
    assert "b would hold 2.0 GiB asleep" in refusal(node.sleep("b")).reason


def test_until_it_has_slept_an_instance_counts_in_the_budget_with_all_it_has() -> None:
    node = SleepingNode(gib=100, silent_bytes=5 * GIB)
    node.run("a", 4)
    node.run("b", 4)
    assert refusal_or_none(node.sleep("a")) is None
    refused = refusal(node.sleep("b"))
    assert "b would hold 4.0 GiB at most (it has not slept yet) asleep" in refused.reason
    node.drains("a")
    node.slept("a", 1)
    assert refusal_or_none(node.sleep("b")) is None


def test_what_it_holds_awake_does_not_count_in_the_budget() -> None:
    node = SleepingNode(gib=100, silent_bytes=4 * GIB)
    node.rest("a", 4, resident=1)
    node.wake("a")
    node.tell("a", "active", resident=4)
    node.rest("b", 4, resident=2)
    assert refusal_or_none(node.sleep("a")) is None


def test_without_a_silent_budget_all_that_fits_the_node_may_sleep() -> None:
    node = SleepingNode(gib=100)
    for number in range(9):
        node.rest(f"a{number}", 10, resident=9)
    assert node.state.promised_bytes == 81 * GIB


def test_more_than_may_sleep_on_one_device_are_refused_with_their_names() -> None:
    node = SleepingNode(gib=100, devices=1, silent_per_device=2)
    for name in ("a", "b"):
        node.rest(name, 4, devices=1)
    node.run("c", 4, devices=1)
    refused = refusal(node.sleep("c"))
    assert "2 instances sleep on device 0 already (a, b), the most allowed" in refused.reason
    assert node.process("c").sleep_state == ""


def test_a_refused_sleep_leaves_the_instance_awake_and_its_room_its_own() -> None:
    node = SleepingNode(gib=100, devices=1, silent_per_device=0)
    node.run("a", 4, devices=1)
    refusal(node.sleep("a"))
    assert node.held_gib("a") == 4
    assert sleep.holders(node.state, [0]) == {0: "a"}


# -- processes that end


def test_a_process_that_died_while_silent_starts_again_if_it_fits() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    assert started_by(node.exited("a")) == ["a"]
    assert node.held_gib("a") == 6


@pytest.mark.parametrize("devices", [0, 1])
def test_a_process_that_died_while_silent_waits_until_it_fits(devices: int) -> None:
    node = SleepingNode(devices=devices)
    gib = 2 if devices else 6
    node.rest("a", gib, devices=devices)
    node.run("b", gib, devices=devices)
    assert started_by(node.exited("a")) == []
    assert node.process("a").phase is ProcessPhase.REFUSED
    assert node.held_gib("a") == 0
    node.sleep("b")
    assert started_by(node.slept("b")) == ["a"]


def test_a_process_that_waits_between_restarts_holds_no_device_that_others_use() -> None:
    node = SleepingNode(devices=1)
    node.rest("a", 2, devices=1)
    node.exited("a")
    node.started("a")
    node.sleep("a")
    node.slept("a")
    node.run("b", 2, devices=1)
    node.exited("a")
    assert node.process("a").phase is ProcessPhase.BACKING_OFF
    node.sleep("b")
    node.slept("b")
    found = node.wake("b")
    assert woken(found) == ["b"] or "a" in refusal(found).reason


def test_a_silent_process_that_is_to_stop_holds_no_more_than_it_did() -> None:
    node = SleepingNode()
    node.rest("a", 6)
    node.run("b", 6)
    node.unwant("a")
    node.tell("a", "stopped")
    assert node.state.promised_bytes <= node.state.memory_bytes
