"""What holds in a node agent's core whatever happens, in whatever order."""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from suite_plugin import examples

from argosy.domain.core import CancelTimer, Effect, Event, SetTimer, TimerFired
from argosy.node_agent.core import effects, events
from argosy.node_agent.core.node import BACKOFF_MAX_US, SPEC
from argosy.node_agent.core.state import NodeState, Process, ProcessPhase

MS, S = 1_000, 1_000_000
GRACE_US, MEMORY, CORES = 5 * S, 10, [0, 1, 2]

names = st.sampled_from(["a", "b", "c"])
generations = st.integers(1, 6)


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


class AnyNodeOrder(RuleBasedStateMachine):
    """Feeds the core as a shell would, and a twin that is made anew before every event."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SPEC.build(NodeState(MEMORY, CORES, GRACE_US))
        self.twin_state = NodeState(MEMORY, CORES, GRACE_US)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.pids = 100
        self.asked: dict[str, tuple[int, bool, int]] = {}
        """Newest decision per name: generation, run, memory."""
        self.starting: dict[str, tuple[int, list[int]]] = {}
        """Memory and cores of what is being started."""
        self.running: dict[str, tuple[int, int, list[int]]] = {}
        """Pid, memory and cores of what runs."""
        self.asked_to_end_us: dict[int, int] = {}
        self.killed: set[str] = set()
        """Names of processes that were killed and have not gone yet."""
        self.stopping = False
        self.all_stopped = False

    @property
    def state(self) -> NodeState:
        state = self.core.state
        assert isinstance(state, NodeState)
        return state

    def in_phase(self, phase: ProcessPhase) -> dict[str, Process]:
        return {name: p for name, p in self.state.processes.items() if p.phase is phase}

    # -- the shell's part

    def feed(self, event: Event) -> None:
        decided = self.core.step(event)
        assert msgspec.msgpack.encode(decided) == self.replayed(event)
        for effect in decided:
            self.perform(effect)

    def replayed(self, event: Event) -> bytes:
        twin = SPEC.build(round_trip(self.twin_state, SPEC.state))
        decided = twin.step(round_trip(event, SPEC.events))
        self.twin_state = twin.state
        return msgspec.msgpack.encode(decided)

    def perform(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                self.timers[effect.key] = effect.at_us
            case CancelTimer():
                self.timers.pop(effect.key, None)
            case effects.StartProcess():
                assert effect.name not in self.starting.keys() | self.running.keys()
                assert not self.stopping
                _, run, memory = self.asked[effect.name]
                assert run
                self.starting[effect.name] = (memory, effect.cores)
            case effects.StopProcess():
                assert self.running[effect.name][0] == effect.pid
                self.asked_to_end_us[effect.pid] = self.now_us
            case effects.KillProcess():
                assert self.running[effect.name][0] == effect.pid
                assert self.now_us >= self.asked_to_end_us[effect.pid] + GRACE_US
                self.killed.add(effect.name)
            case effects.ReportAllStopped():
                assert self.stopping
                assert not self.starting
                assert not self.running
                self.all_stopped = True

    # -- what happens

    @rule(us=st.sampled_from([MS, S, GRACE_US, 40 * S]))
    def pass_time(self, us: int) -> None:
        until_us = self.now_us + us
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            self.feed(TimerFired(now_us=self.now_us, key=key))
        self.now_us = until_us

    @rule(name=names, generation=generations, memory=st.integers(0, 12), cores=st.integers(0, 4))
    def want(self, name: str, generation: int, memory: int, cores: int) -> None:
        if generation > self.asked.get(name, (0,))[0] and not self.stopping:
            self.asked[name] = (generation, True, memory)
        self.feed(
            events.ProcessWanted(
                now_us=self.now_us,
                name=name,
                generation=generation,
                memory_bytes=memory,
                cores=cores,
            )
        )

    @rule(name=names, generation=generations)
    def unwant(self, name: str, generation: int) -> None:
        if generation > self.asked.get(name, (0,))[0]:
            self.asked[name] = (generation, False, 0)
        self.feed(events.ProcessUnwanted(now_us=self.now_us, name=name, generation=generation))

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), fails=st.booleans())
    def start(self, data: st.DataObject, fails: bool) -> None:
        self.finish_start(data.draw(st.sampled_from(sorted(self.starting))), fails)

    def finish_start(self, name: str, fails: bool) -> None:
        memory, cores = self.starting.pop(name)
        if fails:
            self.feed(
                events.ProcessExited(
                    now_us=self.now_us, name=name, pid=0, exit_code=127, message="no such file"
                )
            )
            return
        self.pids += 1
        self.running[name] = (self.pids, memory, cores)
        self.feed(
            events.ProcessStarted(
                now_us=self.now_us, name=name, pid=self.pids, epoch=f"e{self.pids}"
            )
        )

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.running))))

    def end(self, name: str) -> None:
        pid, _, _ = self.running.pop(name)
        self.killed.discard(name)
        self.feed(events.ProcessExited(now_us=self.now_us, name=name, pid=pid, exit_code=-9))

    @precondition(lambda self: self.pids > 104)
    @rule()
    def shut_down(self) -> None:
        self.stopping = True
        self.feed(events.ShutdownStarted(now_us=self.now_us))

    @invariant()
    def no_more_memory_is_promised_than_there_is(self) -> None:
        held = sum(memory for memory, _ in self.starting.values())
        held += sum(memory for _, memory, _ in self.running.values())
        held += sum(
            process.memory_bytes for process in self.in_phase(ProcessPhase.BACKING_OFF).values()
        )
        assert held == self.state.promised_bytes <= MEMORY

    @invariant()
    def no_core_is_given_twice(self) -> None:
        given = [core for _, cores in self.starting.values() for core in cores]
        given += [core for _, _, cores in self.running.values() for core in cores]
        assert len(given) == len(set(given))

    @invariant()
    def nothing_is_refused_that_would_fit(self) -> None:
        for process in self.in_phase(ProcessPhase.REFUSED).values():
            assert process.memory_bytes > self.state.free_bytes or self.stopping

    @invariant()
    def a_timer_waits_for_each_process_that_needs_one(self) -> None:
        ending = {n for n, (pid, _, _) in self.running.items() if pid in self.asked_to_end_us}
        assert (
            set(self.timers)
            == self.in_phase(ProcessPhase.BACKING_OFF).keys() | ending - self.killed
        )

    def teardown(self) -> None:
        """Once nothing fails any more, what runs is what was decided."""
        for _ in range(8):
            for name in sorted(self.starting):
                self.finish_start(name, fails=False)
            for name, (pid, _, _) in sorted(self.running.items()):
                if pid in self.asked_to_end_us:
                    self.end(name)
            self.pass_time(BACKOFF_MAX_US)
        assert not self.starting
        refused = self.in_phase(ProcessPhase.REFUSED).keys()
        wanted = {name for name, (_, run, _) in self.asked.items() if run and not self.stopping}
        assert self.running.keys() | refused == wanted
        assert self.stopping == self.all_stopped


TestAnyOrder = AnyNodeOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(80), stateful_step_count=40)
