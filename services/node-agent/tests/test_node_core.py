from typing import Any, TypeVar

import pytest

from argosy.domain.core import CancelTimer, Effect, SetTimer, TimerFired
from argosy.node_agent.core import effects, events
from argosy.node_agent.core.node import BACKOFF_MAX_US, STABLE_US, NodeCore
from argosy.node_agent.core.state import NodeState, ProcessPhase

MS, S, GIB = 1_000, 1_000_000, 1 << 30
GRACE_US = 40 * S
E = TypeVar("E", bound=Effect)


class NodeUnderTest:
    """A node's core with a clock; its timers fire as `pass_time` goes by them."""

    def __init__(self, gib: int = 10, cores: int = 4) -> None:
        self.state = NodeState(gib * GIB, list(range(cores)), GRACE_US)
        self.core = NodeCore(self.state)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.pids = 100

    def feed(self, kind: Any, **fields: Any) -> list[Effect]:
        decided = self.core.step(kind(now_us=self.now_us, **fields))
        for effect in decided:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.at_us
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
        return [effect for effect in decided if not isinstance(effect, SetTimer | CancelTimer)]

    def pass_time(self, us: int) -> list[Effect]:
        until_us, found = self.now_us + us, []
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            found += self.feed(TimerFired, key=key)
        self.now_us = until_us
        return found

    def want(
        self, name: str = "a", generation: int = 1, gib: float = 1, cores: int = 0
    ) -> list[Effect]:
        return self.feed(
            events.ProcessWanted,
            name=name,
            generation=generation,
            memory_bytes=round(gib * GIB),
            cores=cores,
        )

    def unwant(self, name: str = "a", generation: int = 2) -> list[Effect]:
        return self.feed(events.ProcessUnwanted, name=name, generation=generation)

    def started(self, name: str = "a") -> list[Effect]:
        self.pids += 1
        return self.feed(events.ProcessStarted, name=name, pid=self.pids, epoch=f"e{self.pids}")

    def run(self, name: str = "a", **wanted: Any) -> int:
        """Want it and see it start; returns its pid."""
        self.want(name, **wanted)
        self.started(name)
        return self.pids

    def exited(self, name: str = "a", code: int = -9) -> list[Effect]:
        return self.feed(
            events.ProcessExited, name=name, pid=self.state.processes[name].pid, exit_code=code
        )

    def cannot_start(self, name: str = "a") -> list[Effect]:
        return self.feed(
            events.ProcessExited, name=name, pid=0, exit_code=127, message="no such file"
        )

    def phase(self, name: str = "a") -> ProcessPhase:
        return self.state.processes[name].phase


@pytest.fixture
def node() -> NodeUnderTest:
    return NodeUnderTest()


def all_of(kind: type[E], decided: list[Effect]) -> list[E]:
    return [effect for effect in decided if isinstance(effect, kind)]


def one(kind: type[E], decided: list[Effect]) -> E:
    (found,) = all_of(kind, decided)
    return found


def started_by(decided: list[Effect]) -> list[str]:
    return [effect.name for effect in all_of(effects.StartProcess, decided)]


# -- keeping it running


def test_a_wanted_process_is_started_and_announced(node: NodeUnderTest) -> None:
    assert node.want() == [effects.StartProcess(name="a", cores=[], devices=[])]
    announced = one(effects.AnnounceStarted, node.started())
    assert (announced.pid, announced.epoch, announced.restarts) == (101, "e101", 0)


def test_a_killed_process_is_started_again_at_once(node: NodeUnderTest) -> None:
    pid = node.run()
    exited = node.exited()
    assert one(effects.AnnounceExited, exited) == effects.AnnounceExited(
        name="a", pid=pid, epoch="e101", exit_code=-9, wanted=True, generation=1
    )
    assert started_by(exited) == ["a"]
    assert one(effects.AnnounceStarted, node.started()).restarts == 1


def test_a_process_that_keeps_ending_waits_longer_each_time_up_to_a_limit(
    node: NodeUnderTest,
) -> None:
    node.run()
    waits_ms = []
    for _ in range(9):
        found, began_us = node.exited(), node.now_us
        while not started_by(found):
            found = node.pass_time(100 * MS)
        waits_ms.append((node.now_us - began_us) // MS)
        node.started()
    assert waits_ms == [0, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]
    assert waits_ms[-1] * MS == BACKOFF_MAX_US


def test_a_process_that_ran_well_for_long_is_started_at_once_again(node: NodeUnderTest) -> None:
    node.run()
    for _ in range(3):
        node.exited()
        node.pass_time(BACKOFF_MAX_US)
        node.started()
    node.pass_time(STABLE_US + 1)
    assert started_by(node.exited()) == ["a"]


def test_a_process_that_cannot_be_started_is_tried_again_and_says_why(node: NodeUnderTest) -> None:
    node.want()
    assert started_by(node.cannot_start()) == ["a"]
    node.cannot_start()
    assert node.phase() is ProcessPhase.BACKING_OFF
    assert node.state.processes["a"].reason == "no such file"
    assert started_by(node.pass_time(500 * MS)) == ["a"]


# -- generations


def test_a_decision_is_acted_on_once(node: NodeUnderTest) -> None:
    node.run(generation=3)
    assert node.want(generation=3) == []
    assert node.phase() is ProcessPhase.RUNNING


def test_an_older_decision_never_undoes_a_newer_one(node: NodeUnderTest) -> None:
    node.run(generation=3)
    assert node.unwant(generation=2) == []
    assert node.want(generation=2) == []
    assert node.phase() is ProcessPhase.RUNNING


def test_a_decision_to_stop_holds_before_there_is_anything_to_stop(node: NodeUnderTest) -> None:
    assert node.unwant(generation=3) == []
    assert node.want(generation=2) == []
    assert started_by(node.want(generation=4)) == ["a"]


def test_a_newer_decision_replaces_what_runs(node: NodeUnderTest) -> None:
    pid = node.run(generation=1)
    assert node.want(generation=2) == [effects.StopProcess(name="a", pid=pid)]
    exited = node.exited(code=0)
    assert started_by(exited) == ["a"]
    assert not one(effects.AnnounceExited, exited).wanted


def test_a_replacement_counts_neither_as_a_restart_nor_as_a_failure(node: NodeUnderTest) -> None:
    for generation in range(1, 5):
        node.want(generation=generation)
        if generation > 1:
            assert started_by(node.exited(code=0)) == ["a"]
        node.started()
    assert node.state.processes["a"].restarts == 0


def test_a_newer_decision_waits_for_a_process_that_is_starting(node: NodeUnderTest) -> None:
    node.want(generation=1)
    assert node.want(generation=2) == []
    assert one(effects.StopProcess, node.started()).pid == node.pids
    assert started_by(node.exited(code=0)) == ["a"]


def test_a_newer_decision_ends_the_waiting_after_failures(node: NodeUnderTest) -> None:
    node.run(generation=1)
    node.exited()
    node.started()
    node.exited()
    assert node.phase() is ProcessPhase.BACKING_OFF
    assert started_by(node.want(generation=2)) == ["a"]
    assert node.timers == {}


# -- stopping


def test_an_unwanted_process_is_asked_to_end_and_killed_after_its_grace(
    node: NodeUnderTest,
) -> None:
    pid = node.run()
    assert node.unwant() == [effects.StopProcess(name="a", pid=pid)]
    assert node.pass_time(GRACE_US - 1) == []
    assert node.pass_time(1) == [effects.KillProcess(name="a", pid=pid)]


def test_a_process_that_ends_in_its_grace_is_not_killed(node: NodeUnderTest) -> None:
    node.run()
    node.unwant()
    exited = node.exited(code=0)
    assert started_by(exited) == []
    assert not one(effects.AnnounceExited, exited).wanted
    assert node.pass_time(10 * GRACE_US) == []


def test_a_process_no_longer_wanted_when_it_has_started_is_stopped(node: NodeUnderTest) -> None:
    node.want()
    assert node.unwant() == []
    assert one(effects.StopProcess, node.started()).pid == node.pids


def test_a_process_that_waits_to_be_started_again_is_simply_forgotten(node: NodeUnderTest) -> None:
    node.want()
    node.cannot_start()
    node.cannot_start()
    assert node.unwant() == []
    assert node.pass_time(BACKOFF_MAX_US) == []
    assert node.phase() is ProcessPhase.STOPPED


def test_shutdown_reports_when_the_last_process_has_gone(node: NodeUnderTest) -> None:
    node.run("a")
    node.run("b")
    stopped = node.feed(events.ShutdownStarted)
    assert [effect.name for effect in all_of(effects.StopProcess, stopped)] == ["a", "b"]
    assert all_of(effects.ReportAllStopped, node.exited("b")) == []
    assert one(effects.ReportAllStopped, node.exited("a"))


def test_shutdown_waits_for_a_process_that_is_starting(node: NodeUnderTest) -> None:
    node.want()
    assert node.feed(events.ShutdownStarted) == []
    assert one(effects.StopProcess, node.started()).name == "a"
    assert one(effects.ReportAllStopped, node.exited())


def test_shutdown_of_an_idle_node_reports_at_once(node: NodeUnderTest) -> None:
    assert node.feed(events.ShutdownStarted) == [effects.ReportAllStopped()]


def test_nothing_is_started_after_shutdown_began(node: NodeUnderTest) -> None:
    node.run()
    node.feed(events.ShutdownStarted)
    assert node.want("b") == []
    assert started_by(node.exited()) == []


# -- memory


def test_what_does_not_fit_is_refused_with_the_sum(node: NodeUnderTest) -> None:
    node.run("a", gib=6)
    refused = one(effects.AnnounceRefused, node.want("b", gib=4.5))
    assert "b needs 4.5 GiB" in refused.reason
    assert "of this node's 10.0 GiB 4.0 are free (promised: a 6.0)" in refused.reason


def test_what_fits_exactly_is_started(node: NodeUnderTest) -> None:
    node.run("a", gib=6)
    assert started_by(node.want("b", gib=4)) == ["b"]


def test_a_refused_process_is_started_when_memory_is_free(node: NodeUnderTest) -> None:
    node.run("a", gib=6)
    node.want("b", gib=6)
    node.unwant("a")
    assert started_by(node.exited("a", code=0)) == ["b"]


def test_a_refused_process_takes_what_a_smaller_successor_leaves(node: NodeUnderTest) -> None:
    node.run("a", gib=6, generation=1)
    node.want("b", gib=6)
    node.want("a", gib=2, generation=2)
    assert started_by(node.exited("a")) == ["a", "b"]


def test_a_refused_process_takes_what_one_that_keeps_failing_gives_up(node: NodeUnderTest) -> None:
    node.want("a", gib=6)
    node.cannot_start("a")
    node.cannot_start("a")
    node.want("b", gib=6)
    assert started_by(node.unwant("a")) == ["b"]


def test_a_process_holds_its_memory_until_it_has_gone(node: NodeUnderTest) -> None:
    node.run("a", gib=6, generation=1)
    node.want("a", gib=1, generation=2)
    assert started_by(node.want("b", gib=6)) == []


def test_a_successor_that_asks_for_more_holds_nothing_more_before_it_starts(
    node: NodeUnderTest,
) -> None:
    node.run("a", gib=2, generation=1)
    node.run("b", gib=6)
    node.want("a", gib=9, generation=2)
    assert node.state.promised_bytes == 8 * GIB
    assert "a needs 9.0 GiB" in one(effects.AnnounceRefused, node.exited("a")).reason
    assert node.state.promised_bytes == 6 * GIB


def test_a_process_that_ended_keeps_its_place_while_it_waits_to_start_again(
    node: NodeUnderTest,
) -> None:
    node.run("a", gib=6)
    node.exited("a")
    node.started("a")
    node.exited("a")
    assert node.phase("a") is ProcessPhase.BACKING_OFF
    assert started_by(node.want("b", gib=6)) == []
    assert started_by(node.pass_time(S)) == ["a"]


# -- cores


def test_no_core_is_given_twice(node: NodeUnderTest) -> None:
    given = [one(effects.StartProcess, node.want(name, cores=2)).cores for name in "ab"]
    assert given == [[0, 1], [2, 3]]


def test_without_enough_cores_left_a_process_may_use_any(node: NodeUnderTest) -> None:
    node.want("a", cores=3)
    assert one(effects.StartProcess, node.want("b", cores=2)).cores == []


def test_cores_come_back_when_a_process_ends(node: NodeUnderTest) -> None:
    node.run("a", cores=3)
    node.unwant("a")
    node.exited("a")
    assert one(effects.StartProcess, node.want("b", cores=4)).cores == [0, 1, 2, 3]
