"""What holds on a node whose instances sleep and wake, whatever happens in whatever order."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from suite_plugin import examples

from argosy.domain.core import CancelTimer, Effect, SetTimer, TimerFired
from argosy.node_agent.core import effects, events, sleep
from argosy.node_agent.core.node import SPEC
from argosy.node_agent.core.state import NodeState, ProcessPhase

S = 1_000_000
GRACE_US, DRAIN_US = 40 * S, 30 * S


@dataclass
class ProcessLife:
    """What an instance really is, which the node agent hears of late."""

    epoch: str
    memory: int
    devices: list[int]
    state: str = "active"
    past_return: bool = False
    """Its sleep cannot be turned round any more."""
    decision_sequence: int = 0
    awake: bool = True
    """As last decided."""
    change: int = 1
    stopping: bool = False
    asked: list[effects.PutToSleep | effects.WakeUp] = field(default_factory=list)
    """Calls on their way."""
    told: list[tuple[int, str, int]] = field(default_factory=list)
    """Facts on their way: change, state, resident bytes."""

    def become(self, state: str) -> None:
        self.state, self.change, self.past_return = state, self.change + 1, False
        self.told.append((self.change, state, 1 if state == "silent" else 0))

    def take(self, call: effects.PutToSleep | effects.WakeUp) -> None:
        if call.decision_sequence <= self.decision_sequence or self.stopping:
            return
        self.decision_sequence, self.awake = (
            call.decision_sequence,
            isinstance(call, effects.WakeUp),
        )
        if self.awake and self.state == "draining" and not self.past_return:
            self.become("active")
        self.go()

    def go(self) -> None:
        if self.state == "active" and not (self.awake and not self.stopping):
            self.become("draining")
        elif self.state == "silent" and self.awake and not self.stopping:
            self.become("waking")

    def move_on(self) -> None:
        """What is under way gets on."""
        if self.state == "draining" and not self.past_return:
            self.past_return = True
        elif self.state == "draining" and not self.stopping:
            self.become("silent")
        elif self.state == "waking":
            self.become("active")
        self.go()

    @property
    def uses(self) -> int:
        return 1 if self.state == "silent" else self.memory


names = st.sampled_from(["a", "b", "c", "d"])
MEMORY, DEVICES = 10, [0, 1]


class AnyNode(RuleBasedStateMachine):
    """A node, and instances whose news and calls take as long as they like, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SPEC.build(NodeState(MEMORY, [0], GRACE_US, list(DEVICES), silent_per_device=2))
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.pids = 100
        self.decision_sequence = 0
        self.newest: dict[str, int] = {}
        self.generation = 0
        self.asked: dict[str, tuple[int, int]] = {}
        """Memory and devices of each name, as last wanted."""
        self.starting: dict[str, list[int]] = {}
        self.lives: dict[str, ProcessLife] = {}

    @property
    def state(self) -> NodeState:
        state = self.core.state
        assert isinstance(state, NodeState)
        return state

    def feed(self, kind: Any, **fields: Any) -> list[Effect]:
        image = msgspec.msgpack.encode(self.state)
        event = kind(now_us=self.now_us, **fields)
        decided = list(self.core.step(event))
        twin = SPEC.build(msgspec.msgpack.decode(image, type=SPEC.state))
        assert list(twin.step(event)) == decided
        for effect in decided:
            self.perform(effect)
        return decided

    def perform(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                self.timers[effect.key] = effect.at_us
            case CancelTimer():
                self.timers.pop(effect.key, None)
            case effects.StartProcess():
                assert len(effect.devices) == self.asked[effect.name][1]
                self.starting[effect.name] = effect.devices
            case effects.StopProcess():
                life = self.lives[effect.name]
                life.stopping = True
                life.go()
            case effects.PutToSleep() | effects.WakeUp():
                assert not self.lives[effect.name].stopping
                assert effect.decision_sequence == self.newest[effect.name]
                self.lives[effect.name].asked.append(effect)
            case effects.AnnounceSleepDecisionRefused():
                assert effect.decision_sequence == self.newest[effect.name]
                assert effect.reason

    def started(self, name: str) -> None:
        self.pids += 1
        epoch, memory = f"e{self.pids}", self.state.processes[name].held_bytes
        self.lives[name] = ProcessLife(epoch, memory, self.starting.pop(name))
        self.feed(events.ProcessStarted, name=name, pid=self.pids, epoch=epoch)

    def ended(self, name: str) -> None:
        del self.lives[name]
        self.feed(events.ProcessExited, name=name, pid=self.state.processes[name].pid, exit_code=-9)

    # -- what happens

    @rule(name=names, memory=st.integers(1, 8), devices=st.integers(0, 2))
    def want(self, name: str, memory: int, devices: int) -> None:
        self.generation += 1
        self.asked[name] = (memory, devices)
        self.feed(
            events.ProcessWanted,
            name=name,
            generation=self.generation,
            memory_bytes=memory,
            cores=0,
            devices=devices,
        )

    @precondition(lambda self: len(self.asked) > 2)
    @rule(name=names)
    def unwant(self, name: str) -> None:
        self.generation += 1
        self.feed(events.ProcessUnwanted, name=name, generation=self.generation)

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.started(data.draw(st.sampled_from(sorted(self.starting))))

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        self.ended(data.draw(st.sampled_from(sorted(self.lives))))

    @rule(name=names, wake=st.booleans(), late=st.sampled_from([0, 0, 0, 1, 3]))
    def decide(self, name: str, wake: bool, late: int) -> None:
        self.decision_sequence += 1
        decision_sequence = self.decision_sequence - late
        if decision_sequence > self.newest.get(name, 0) and name in self.state.processes:
            self.newest[name] = decision_sequence
        if wake:
            self.feed(
                events.WakeDecided, name=name, decision_sequence=decision_sequence, cause="demand"
            )
        else:
            self.feed(
                events.SleepDecided,
                name=name,
                decision_sequence=decision_sequence,
                level="dram",
                drain_us=DRAIN_US,
                cause="idle",
            )

    @precondition(lambda self: any(life.asked for life in self.lives.values()))
    @rule(data=st.data())
    def deliver_call(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, life in self.lives.items() if life.asked)))
        life = self.lives[name]
        life.take(life.asked.pop(data.draw(st.integers(0, len(life.asked) - 1))))

    @precondition(lambda self: any(life.told for life in self.lives.values()))
    @rule(data=st.data())
    def deliver_fact(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, life in self.lives.items() if life.told)))
        life = self.lives[name]
        self.tell(name, data.draw(st.integers(0, len(life.told) - 1)))

    def tell(self, name: str, which: int) -> None:
        life = self.lives[name]
        change, state, resident = life.told.pop(which)
        self.feed(
            events.LifecycleChanged,
            name=name,
            epoch=life.epoch,
            change=change,
            state=state,
            resident_bytes=resident,
        )

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def get_on(self, data: st.DataObject) -> None:
        self.lives[data.draw(st.sampled_from(sorted(self.lives)))].move_on()

    @rule(us=st.sampled_from([S, 20 * S]))
    def pass_time(self, us: int) -> None:
        until_us = self.now_us + us
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            self.feed(TimerFired, key=key)
        self.now_us = until_us

    # -- what always holds

    @invariant()
    def no_more_is_promised_than_there_is(self) -> None:
        assert self.state.promised_bytes <= MEMORY

    @invariant()
    def nobody_uses_more_than_was_promised_to_it(self) -> None:
        for name, life in self.lives.items():
            assert life.uses <= self.state.processes[name].held_bytes

    @invariant()
    def no_device_has_two_awake_holders(self) -> None:
        awake = [life.devices for life in self.lives.values() if life.state != "silent"]
        held = [device for devices in [*awake, *self.starting.values()] for device in devices]
        assert len(held) == len(set(held))

    @invariant()
    def what_waits_lacks_something_that_is_coming(self) -> None:
        for name, process in self.state.processes.items():
            if process.waits:
                assert process.phase is ProcessPhase.RUNNING
                assert process.sleep_state == "silent"
                others = [p for p in self.state.processes.values() if p is not process]
                assert sleep.lacks(self.state, name, process)
                assert any(
                    p.phase is ProcessPhase.STOPPING or p.sleep_state == "draining" for p in others
                )

    @invariant()
    def nothing_is_refused_that_would_fit(self) -> None:
        idle = set(DEVICES) - sleep.holders(self.state, DEVICES).keys()
        for process in self.state.processes.values():
            if process.phase is ProcessPhase.REFUSED:
                fits = process.memory_bytes <= self.state.free_bytes
                assert not (fits and process.devices <= len(idle))

    def teardown(self) -> None:
        """Once all has been told and done, everybody is where it was last decided, or refused."""
        for _ in range(12):
            for name in sorted(self.starting):
                self.started(name)
            for name, life in sorted(self.lives.items()):
                while life.asked:
                    life.take(life.asked.pop(0))
                for _ in range(4):
                    life.move_on()
                while life.told:
                    self.tell(name, 0)
                if life.stopping:
                    self.ended(name)
            self.pass_time(20 * S)
            self.no_more_is_promised_than_there_is()
            self.no_device_has_two_awake_holders()
        assert not any(process.waits for process in self.state.processes.values())
        self.nobody_uses_more_than_was_promised_to_it()


TestAnyNode = AnyNode.TestCase
TestAnyNode.settings = settings(max_examples=examples(150), stateful_step_count=40)
