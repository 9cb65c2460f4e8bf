"""A small fleet around the autoscaler's core, which does or does not do what is decided."""

from typing import Any

import pytest

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.autoscaler import SPEC, TICK
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.state import AutoscalerState, Member, ScalerLimits
from argosy.domain.core import Effect, TimerFired
from argosy.domain.demand import Machine, Slo
from argosy.domain.timing import Timing

S = 1_000_000
BEGAN_US = 1_767_571_200 * S


class ScaledFleet:
    """Both roles, a router, and time that goes on in steps of a report."""

    def __init__(self, **limits: Any) -> None:
        self.core = SPEC.build(AutoscalerState(limits=ScalerLimits(**{"plan_slots": 20, **limits})))
        self.now_us = BEGAN_US
        self.obeys = True
        self.decisions: list[effects.DecideScale] = []
        self.sleep_decisions: list[effects.DecideSleep | effects.DecideWake] = []
        self.slots: list[effects.PublishSlot] = []
        self.log: list[Any] = []
        self.traffic = [0.0] * 4
        self.finished = [0.0] * 3
        self.generation = 0
        self.changes: dict[str, int] = {}
        self.next_tick_us = BEGAN_US

    @property
    def state(self) -> AutoscalerState:
        state = self.core.state
        assert isinstance(state, AutoscalerState)
        return state

    def feed(self, kind: Any, **fields: Any) -> list[Effect]:
        event = kind(now_us=self.now_us, **fields)
        self.log.append(event)
        found = list(self.core.step(event))
        for effect in found:
            match effect:
                case effects.DecideScale():
                    self.decisions.append(effect)
                case effects.DecideSleep() | effects.DecideWake():
                    self.sleep_decisions.append(effect)
                case effects.PublishSlot():
                    self.slots.append(effect)
        if self.obeys:
            self.obey(found)
        return found

    def obey(self, decided: list[Effect]) -> None:
        for effect in decided:
            match effect:
                case effects.DecideSleep():
                    self.becomes(effect.instance, "draining")
                    self.becomes(effect.instance, "silent")
                case effects.DecideWake():
                    self.becomes(effect.instance, "waking")
                    self.becomes(effect.instance, "active")
                case effects.DecideScale(pools=pools, advisory=False):
                    for pool in pools:
                        self.make_so(pool)

    def make_so(self, pool: effects.PoolDecision) -> None:
        for name in pool.stop:
            self.feed(events.MemberDecided, instance=name, role=pool.role, node=name, run=False)
            if name in self.changes:
                self.becomes(name, "stopped")
        while len(self.of(pool.role)) < pool.exist:
            self.join(pool.role, f"{pool.role}-{self.generation}")
            self.generation += 1

    def scale(self, mode: str = "act", **named: Any) -> None:
        bounds = named.pop("bounds", events.PoolBounds(1, 1, 6))
        fields: dict[str, Any] = {
            "pools": dict.fromkeys(events.ROLES, bounds),
            "budget": 10,
            "silent": 0,
            "idle_sleep_us": 0,
            "sleep_level": "dram",
            "slo": Slo(),
            "ratio_min": 0,
            "ratio_max": 0,
            "dwell_us": 600 * S,
            **named,
        }
        self.generation += 1
        self.feed(events.ScalingApplied, generation=self.generation, mode=mode, **fields)

    def join(self, role: str, name: str, state: str = "active", rack: str = "") -> None:
        self.feed(events.MemberDecided, instance=name, role=role, node=name, run=True)
        if state == "pending":
            return
        self.changes[name] = 1
        self.feed(
            events.MemberJoined,
            instance=name,
            epoch=f"e-{name}",
            role=role,
            node=name,
            rack=rack,
            change=1,
            timing=Timing(),
            machine=Machine(),
        )
        if state != "active":
            self.becomes(name, state)

    def becomes(self, name: str, state: str, took_us: int = 0) -> None:
        self.changes[name] += 1
        self.feed(
            events.MemberChanged,
            instance=name,
            epoch=f"e-{name}",
            change=self.changes[name],
            state=state,
            took_us=took_us,
        )

    def crew(self, at_work: int, asleep: int, rack: str = "") -> None:
        """As many of each role."""
        for role in events.ROLES:
            for number in range(at_work + asleep):
                state = "active" if number < at_work else "silent"
                self.join(role, f"{role}-{rack}{number}", state, rack)

    def report(
        self, rate: float, seconds: float = 1, prompt: float = 1000, queued: int = 0
    ) -> None:
        """What a router tells after so long."""
        more = (rate * seconds, rate * seconds * prompt, rate * seconds * prompt**2, 0.0)
        self.traffic = [a + b for a, b in zip(self.traffic, more, strict=True)]
        requests, prompt_tokens, squared, cached = self.traffic
        self.feed(
            events.TrafficSeen,
            router="router",
            epoch="1",
            queued=queued,
            queued_tokens=0,
            requests=requests,
            prompt_tokens=prompt_tokens,
            prompt_tokens_squared=squared,
            cached_tokens=cached,
        )

    def tick(self) -> list[Effect]:
        return self.feed(TimerFired, key=TICK)

    def run(self, rate: float | None, seconds: int, every: int = 5, **named: Any) -> None:
        """Time with so much traffic; None: no router is heard."""
        for _ in range(seconds // every):
            self.now_us += every * S
            if rate is not None:
                self.report(rate, every, **named)
            self.tick()

    def of(self, role: str) -> dict[str, Member]:
        return members.of_role(self.state, role)

    def awake(self, role: str) -> int:
        return sum(map(members.ready, self.of(role).values()))


@pytest.fixture
def new_world() -> type[ScaledFleet]:
    return ScaledFleet


MS, GIB = 1_000, 1 << 30
IDLE_US = 5 * S
REPORT_US = 500 * MS
Decision = effects.DecideSleep | effects.DecideWake


class IdleFleet:
    """The core in a fleet without a plan: a clock, a router that reports, instances that obey."""

    def __init__(
        self, *, decode: int = 1, prefill: int = 1, idle_us: int = IDLE_US, mode: str = ""
    ) -> None:
        self.began()
        self.feed(events.NodeSeen, node="n1", free_bytes=100 * GIB)
        for role, count in (("prefill", prefill), ("decode", decode)):
            for number in range(count):
                self.decide(f"{role}-{number}")
        self.apply(idle_us=idle_us, mode=mode)
        for name in list(self.state.members):
            self.loads(name)
            self.hear(name, "active")

    def began(self, now_us: int = BEGAN_US) -> None:
        """Nothing is known yet."""
        self.core = SPEC.build(AutoscalerState())
        self.now_us = now_us
        self.generation = 0
        self.changes: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.arrived = 0

    @property
    def state(self) -> AutoscalerState:
        state = self.core.state
        assert isinstance(state, AutoscalerState)
        return state

    def feed(self, kind: Any, **fields: Any) -> list[Any]:
        return list(self.core.step(kind(now_us=self.now_us, **fields)))

    def decide(self, name: str, *, run: bool = True, generation: int = 1) -> None:
        """As the operator decides."""
        self.feed(
            events.MemberDecided,
            instance=name,
            role=name.partition("-")[0],
            node="n1",
            run=run,
            generation=generation,
            memory_bytes=4 * GIB,
        )

    def apply(self, *, idle_us: int = IDLE_US, level: str = "disk", mode: str = "") -> None:
        self.generation += 1
        self.feed(
            events.ScalingApplied,
            generation=self.generation,
            mode=mode,
            pools=dict.fromkeys(events.ROLES, events.PoolBounds(1, 0, 8)),
            budget=16,
            silent=0,
            idle_sleep_us=idle_us,
            sleep_level=level,
            slo=Slo(),
            ratio_min=0,
            ratio_max=0,
            dwell_us=S,
        )

    def loads(self, name: str) -> None:
        """Its process starts."""
        self.epochs[name] = self.epochs.get(name, 0) + 1
        self.changes[name] = 0
        self.by_node(name, "loading")

    def by_node(self, name: str, state: str, *, at_us: int = 0) -> list[Any]:
        """What its node agent says of its newest process."""
        return self.feed(
            events.MemberChanged,
            instance=name,
            epoch=f"e{self.epochs.get(name, 0)}",
            change=0,
            state=state,
            at_us=at_us or self.now_us,
        )

    def hear(
        self,
        name: str,
        state: str,
        *,
        took_us: int = 0,
        resident: int = 0,
        change: int = 0,
        at_us: int = 0,
        epoch: str = "",
    ) -> list[Any]:
        """What its process says."""
        self.changes[name] = change or self.changes.get(name, 0) + 1
        return self.feed(
            events.MemberChanged,
            instance=name,
            epoch=epoch or f"e{self.epochs[name]}",
            change=self.changes[name],
            state=state,
            at_us=at_us or self.now_us,
            took_us=took_us,
            resident_bytes=resident,
        )

    def slept(self, *names: str, took_us: int = 0, resident: int = 0) -> None:
        for name in names or self.state.members:
            self.hear(name, "draining")
            self.hear(name, "silent", took_us=took_us, resident=resident)

    def woke(self, *names: str, took_us: int = 0) -> None:
        for name in names or self.state.members:
            self.hear(name, "waking")
            self.hear(name, "active", took_us=took_us)

    def report(self, router: str, requests: int = 0, queued: int = 0, arrived: int = 0) -> Any:
        return self.feed(
            events.TrafficSeen,
            router=router,
            epoch="1",
            queued=queued,
            queued_tokens=0.0,
            requests=float(arrived),
            prompt_tokens=0.0,
            prompt_tokens_squared=0.0,
            cached_tokens=0.0,
            running=requests,
        )

    def work(self, requests: int = 0, *, queued: int = 0, arrived: int = 0) -> list[Any]:
        self.arrived += arrived
        return list(self.report("r", requests, queued, self.arrived))

    def demand(self, held: int = 1, waited_us: int = 0) -> list[Any]:
        return self.feed(
            events.DemandSeen, router="r", queued_requests=held, oldest_wait_us=waited_us
        )

    def ask_sleep(self, *names: str, **fields: Any) -> list[Any]:
        return self.feed(events.ManualSleepRequested, instances=list(names), **fields)

    def ask_wake(self, *names: str) -> list[Any]:
        return self.feed(events.ManualWakeRequested, instances=list(names))

    def refuse(self, decision: Decision, reason: str = "no room") -> list[Any]:
        return self.feed(
            events.SleepDecisionRefused,
            instance=decision.instance,
            decision_sequence=decision.decision_sequence,
            wake=isinstance(decision, effects.DecideWake),
            reason=reason,
        )

    def recall(self, name: str, sequence: int, *, wake: bool, by: str = "rule") -> None:
        self.feed(
            events.SleepDecisionRecalled,
            instance=name,
            decision_sequence=sequence,
            wake=wake,
            decided_by=by,
        )

    def pass_time(self, us: int) -> list[Any]:
        """With nothing to do, as a router reports every REPORT_US. Ends with the first decision."""
        until_us = self.now_us + us
        while self.now_us + REPORT_US <= until_us:
            self.now_us += REPORT_US
            if found := self.work():
                return found
        self.now_us = until_us
        return []

    def until_sleep(self) -> int:
        """Let it be idle until all are put to sleep, and obey; how long that took."""
        began_us = self.now_us
        self.work(arrived=1)
        found = self.pass_time(1000 * S)
        assert sorted(d.instance for d in found) == sorted(self.state.members)
        self.slept()
        return self.now_us - began_us

    def instance(self, name: str) -> Member:
        return self.state.members[name]


@pytest.fixture(scope="session")
def new_idle_fleet() -> type[IdleFleet]:
    return IdleFleet
