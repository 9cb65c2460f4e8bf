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
