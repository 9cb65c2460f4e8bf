"""What holds whatever happens to a fleet that does late, in part or never what is decided."""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from suite_plugin import examples

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.autoscaler import SPEC, TICK
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning import pool_actions
from argosy.autoscaler.core.state import AutoscalerState, ScalerLimits
from argosy.domain.core import Effect, SetTimer, TimerFired
from argosy.domain.demand import Machine, Slo
from argosy.domain.plan_window import PlanWindow
from argosy.domain.timing import Timing

S = 1_000_000
BEGAN_US = 1_767_571_200 * S
NEXT = {"draining": "silent", "waking": "active", "loading": "active", "failed": "loading"}
BAD = st.sampled_from([float("nan"), float("inf"), -1.0, 1e300, 1e15, -(2.0**70), 0.0])

roles = st.sampled_from(events.ROLES)
counts = st.integers(0, 6)
picks = st.integers(0, 10**6)


def in_order(kind: Any, *values: Any, **named: Any) -> Any:
    """An event from the values of its fields, in their order."""
    return kind(**dict(zip(kind.__struct_fields__, values, strict=False)), **named)


class MemberLife:
    """An instance as it really is."""

    def __init__(self, role: str, rack: str) -> None:
        self.role, self.rack = role, rack
        self.state, self.epoch, self.change, self.decision_sequence = "pending", 0, 0, 0
        self.facts: list[events.AutoscalerEvent] = []
        """On their way to the autoscaler; of one instance they come in order."""
        self.orders: list[effects.DecideSleep | effects.DecideWake] = []


class AnyFleet(RuleBasedStateMachine):
    """The core, and all that it hears, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SPEC.build(AutoscalerState(limits=ScalerLimits(plan_slots=8)))
        self.now_us = BEGAN_US
        self.lives: dict[str, MemberLife] = {}
        self.sums = [0.0] * 4
        self.applied = 0
        self.born = 0
        self.generation = 0
        self.sequences: dict[str, int] = {}
        self.raised_us: dict[str, int] = {}
        self.wish: effects.DecideScale | None = None
        self.last: effects.DecideScale | None = None
        self.last_us = 0

    @property
    def state(self) -> AutoscalerState:
        state = self.core.state
        assert isinstance(state, AutoscalerState)
        return state

    def feed(self, event: Any) -> None:
        asked, before = (
            self.asked(),
            msgspec.convert(msgspec.to_builtins(self.state.members), dict[str, members.Member]),
        )
        decided = list(self.core.step(event))
        scales = [e for e in decided if isinstance(e, effects.DecideScale)]
        decided_sleeps = [
            e for e in decided if isinstance(e, effects.DecideSleep | effects.DecideWake)
        ]
        assert len(scales) <= 1
        for decision in scales:
            self.check(decision, before, asked)
        self.check_sleep_decisions(decided_sleeps, scales, before)
        for effect in decided:
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        match effect:
            case effects.DecideSleep() | effects.DecideWake():
                if effect.instance in self.lives:
                    self.lives[effect.instance].orders.append(effect)
            case effects.DecideScale():
                self.last, self.last_us = effect, self.now_us
                if not effect.advisory:
                    self.wish = effect
            case SetTimer():
                assert effect.at_us >= self.now_us

    def asked(self) -> int:
        """What holds or is to hold devices, by what the core knows and has asked for."""
        used = sum(members.used(member) for member in self.state.members.values())
        return used + sum(pool_actions.promised(self.state, role) for role in events.ROLES)

    def cap(self, role: str) -> int:
        """Most of a role; of "", of both."""
        scaling = self.state.scaling
        assert scaling is not None
        most = scaling.pools[role].high if role else scaling.budget
        found = [
            w.count
            for w in self.state.windows
            if w.kind == "at_most"
            and w.role == role
            and w.from_us < self.now_us + 60 * S
            and self.now_us < w.until_us
        ]
        return max(0, min([most, *found]))

    def drained(self) -> set[str]:
        return {
            w.rack
            for w in self.state.windows
            if w.kind == "drain" and w.from_us <= self.now_us < w.until_us
        }

    def held(self, role: str) -> bool:
        scaling = self.state.scaling
        assert scaling is not None
        holds = any(
            w.kind == "hold" and w.role in ("", role) and w.from_us <= self.now_us < w.until_us
            for w in self.state.windows
        )
        raised_us = self.raised_us.get(role, -scaling.dwell_us)
        return holds or self.now_us < raised_us + scaling.dwell_us

    def check(self, found: effects.DecideScale, before: dict[str, Any], asked: int) -> None:
        scaling = self.state.scaling
        assert scaling is not None
        assert scaling.mode
        assert found.advisory == (scaling.mode != "act")
        assert found.generation > self.generation
        self.generation = found.generation
        assert {pool.role for pool in found.pools} == set(events.ROLES)
        if not found.advisory:
            assert self.asked() <= max(scaling.budget, asked)
        total = sum(map(members.ready, before.values()))
        coming = sum(map(members.coming, before.values()))
        for pool in found.pools:
            self.check_pool(pool, before, total + coming > self.cap(""), found.advisory)
        self.check_again(found)
        for pool in found.pools:
            if pool.wake or pool.exist > pool.exist_before:
                self.raised_us[pool.role] = self.now_us

    def check_pool(
        self, pool: effects.PoolDecision, before: dict[str, Any], crowded: bool, advisory: bool
    ) -> None:
        scaling, role = self.state.scaling, pool.role
        assert scaling is not None
        high = scaling.pools[role].high
        assert 0 <= pool.awake <= high
        assert pool.exist <= max(high, pool.exist_before)
        named = [*pool.wake, *pool.sleep, *pool.stop]
        assert len(named) == len(set(named))
        for name in named:
            assert before[name].role == role
            assert before[name].wanted
        for name in pool.wake:
            assert before[name].rack not in self.drained() or not before[name].rack
        ready = [n for n, m in before.items() if m.role == role and m.wanted and members.ready(m)]
        gone = [n for n in (*pool.sleep, *pool.stop) if n in ready]
        at_work = len(ready) + sum(
            m.role == role and m.wanted and members.coming(m) for m in before.values()
        )
        over = at_work > self.cap(role) or crowded
        moved = [name for name in gone if before[name].rack not in self.drained()]
        if moved and not over:
            assert not self.held(role)
            assert len(moved) <= max(1, len(ready) // 10)
        most = min(self.cap(role), self.cap(""))
        if gone and most >= 2 and not over:
            assert len(ready) > len(gone) or self.idle()
        for name in pool.sleep:
            assert self.now_us >= before[name].manual_until_us
        for name in pool.wake:
            assert self.now_us >= before[name].manual_until_us

    def idle(self) -> bool:
        scaling = self.state.scaling
        assert scaling is not None
        after_us = scaling.idle_sleep_us
        return bool(after_us) and self.now_us - self.state.busy_us >= after_us

    def check_again(self, found: effects.DecideScale) -> None:
        """The same is not said again and again."""
        if self.last is None or self.last.advisory != found.advisory:
            return
        says = [
            [(p.role, p.exist, p.awake if d.advisory else 0) for p in d.pools]
            for d in (self.last, found)
        ]
        named = any(p.wake or p.sleep or p.stop for p in found.pools)
        if says[0] == says[1] and (found.advisory or not named):
            assert not found.advisory
            assert self.now_us - self.last_us >= self.state.limits.slot_us

    def check_sleep_decisions(
        self, decided_sleeps: list[Any], scales: list[Any], before: dict[str, Any]
    ) -> None:
        named = [decision.instance for decision in decided_sleeps]
        assert len(named) == len(set(named))
        planned = [decision for decision in decided_sleeps if decision.decided_by == "plan"]
        assert not planned or (scales and not scales[0].advisory)
        for decision in decided_sleeps:
            assert decision.decision_sequence > max(
                before[decision.instance].decision_sequence,
                self.sequences.get(decision.instance, 0),
            )
            self.sequences[decision.instance] = decision.decision_sequence
            assert decision not in planned or decision.generation == scales[0].generation

    def one(self, pick: int, *states: str) -> tuple[str, MemberLife] | None:
        found = sorted(n for n, life in self.lives.items() if life.state in states or not states)
        return (found[pick % len(found)], self.lives[found[pick % len(found)]]) if found else None

    def tell(self, name: str, life: MemberLife, took_us: int = 0) -> None:
        life.change += 1
        life.facts.append(
            events.MemberChanged(
                now_us=0,
                instance=name,
                epoch=f"{life.epoch}",
                change=life.change,
                state=life.state,
                took_us=took_us,
            )
        )

    def deliver(self, life: MemberLife) -> None:
        if life.facts:
            self.feed(msgspec.structs.replace(life.facts.pop(0), now_us=self.now_us))

    @initialize(at_work=st.integers(0, 4), asleep=counts)
    def fleet(self, at_work: int, asleep: int) -> None:
        for role in events.ROLES:
            for number in range(at_work + asleep):
                name = self.decided(role, "ab"[number % 2])
                self.come_up(name)
                life = self.lives[name]
                if number >= at_work:
                    life.state = "silent"
                    self.tell(name, life)
                while life.facts:
                    self.deliver(life)
        self.scale("act", 6, 0, 8, 0, 600)

    def decided(self, role: str, rack: str) -> str:
        self.born += 1
        name = f"{role}-{self.born}"
        self.lives[name] = MemberLife(role, rack)
        self.lives[name].facts.append(
            events.MemberDecided(now_us=0, instance=name, role=role, node=name, run=True)
        )
        return name

    def come_up(self, name: str) -> None:
        life = self.lives[name]
        life.state, life.epoch, life.change = "active", life.epoch + 1, 1
        life.facts.append(
            events.MemberJoined(
                now_us=0,
                instance=name,
                epoch=f"{life.epoch}",
                role=life.role,
                node=name,
                rack=life.rack,
                change=1,
                timing=Timing(),
                machine=Machine(),
            )
        )

    @rule(
        mode=st.sampled_from(["act", "act", "act", "advise", ""]),
        high=st.integers(1, 7),
        low=st.integers(0, 2),
        budget=st.integers(2, 12),
        silent=st.integers(0, 2),
        dwell_s=st.sampled_from([0, 60, 600]),
        idle_s=st.sampled_from([0, 0, 120]),
        ratio=st.sampled_from([(0, 0), (0.5, 2.0), (0, 1.0)]),
    )
    def scale(
        self,
        mode: str,
        high: int,
        low: int,
        budget: int,
        silent: int,
        dwell_s: int,
        idle_s: int = 0,
        ratio: tuple[float, float] = (0, 0),
    ) -> None:
        self.applied += 1
        pool = events.PoolBounds(min(2, high), min(low, high), high)
        self.feed(
            events.ScalingApplied(
                now_us=self.now_us,
                generation=self.applied,
                mode=mode,
                pools=dict.fromkeys(events.ROLES, pool),
                budget=budget,
                silent=silent,
                idle_sleep_us=idle_s * S,
                sleep_level="dram",
                slo=Slo(),
                ratio_min=ratio[0],
                ratio_max=ratio[1],
                dwell_us=dwell_s * S,
            )
        )

    @rule(seconds=st.sampled_from([1, 5, 5, 5, 20, 60, 600, 5 * 3600]))
    def wait(self, seconds: int) -> None:
        self.now_us += seconds * S

    @rule()
    def tick(self) -> None:
        self.feed(TimerFired(now_us=self.now_us, key=TICK))

    @rule(
        rate=st.sampled_from([0.0, 0.1, 1.0, 10.0, 50.0, 200.0]),
        seconds=st.integers(1, 40),
        queued=st.sampled_from([0, 0, 0, 50]),
        prompt=st.sampled_from([10, 1000, 8000]),
    )
    def traffic(self, rate: float, seconds: int, queued: int, prompt: int) -> None:
        """Some seconds with news of traffic, and a tick as often as there is."""
        for second in range(seconds):
            self.now_us += S
            more = (rate, rate * prompt, rate * prompt**2, rate * prompt / 3)
            self.sums = [a + b for a, b in zip(self.sums, more, strict=True)]
            self.feed(
                in_order(events.TrafficSeen, self.now_us, "router", "1", queued, queued, *self.sums)
            )
            if second % 5 == 4:
                self.tick()

    @rule(bad=BAD, place=st.integers(0, 5), router=st.sampled_from(["router", "other"]))
    def bad_traffic(self, bad: float, place: int, router: str) -> None:
        told: list[Any] = [0, 0.0, *self.sums]
        told[place] = bad
        self.feed(in_order(events.TrafficSeen, self.now_us, router, "1", *told))

    @rule(bad=BAD, place=st.integers(0, 6), pick=picks)
    def bad_load(self, bad: float, place: int, pick: int) -> None:
        told: list[Any] = [0, 0, 0, 0.0, 0.0, 0.0, 0.0]
        told[place] = bad
        if chosen := self.one(pick, "active"):
            name, life = chosen
            steps = [events.MeasuredStep(bad, 1, 0, 0.0), events.MeasuredStep(1, 0, bad, bad)]  # type: ignore[arg-type]
            self.feed(
                in_order(events.LoadSeen, self.now_us, name, f"{life.epoch}", *told, steps=steps)
            )

    @rule(bad=BAD, start_s=st.sampled_from([-3600, 60, 10**9]), seconds=st.sampled_from([0, 60]))
    def bad_history(self, bad: float, start_s: int, seconds: int) -> None:
        start_us = self.now_us + start_s * S
        self.feed(
            events.SlotRecalled(
                now_us=self.now_us,
                start_us=start_us,
                seconds=seconds,
                requests=bad,
                prompt_tokens=1,
                prompt_tokens_squared=1,
                cached_tokens=0,
                finished=0,
                output_tokens=0,
                output_tokens_squared=0,
            )
        )
        self.feed(events.SeasonFitted(now_us=self.now_us, start_us=start_us, rates=[bad]))

    @rule(
        kind=st.sampled_from(["at_least", "at_most", "hold", "hold", "drain"]),
        role=st.sampled_from(["", *events.ROLES]),
        count=counts,
        start_s=st.sampled_from([0, 120]),
        length_s=st.sampled_from([30, 600]),
    )
    def plan(self, kind: str, role: str, count: int, start_s: int, length_s: int) -> None:
        from_us = self.now_us + start_s * S
        until_us, rack = from_us + length_s * S, "a" if kind == "drain" else ""
        window = PlanWindow("plan", from_us, until_us, kind, role, count, rack)
        self.feed(
            events.PlansChanged(now_us=self.now_us, windows=[*self.state.windows[-1:], window])
        )

    @rule(pick=picks)
    def news(self, pick: int) -> None:
        """What an instance tells arrives."""
        if chosen := self.one(pick):
            while chosen[1].facts:
                self.deliver(chosen[1])

    @rule(pick=picks)
    def obey(self, pick: int) -> None:
        """An instance does the last thing it was told."""
        if (chosen := self.one(pick)) and chosen[1].orders:
            name, life = chosen
            order, life.orders = life.orders[-1], []
            wake = isinstance(order, effects.DecideWake)
            self.feed(
                events.SleepDecisionRecalled(
                    now_us=self.now_us,
                    instance=name,
                    decision_sequence=order.decision_sequence,
                    wake=wake,
                    decided_by="plan",
                )
            )
            if wake and life.state in ("silent", "draining"):
                life.state = "waking" if life.state == "silent" else "active"
                self.tell(name, life)
            elif not wake and life.state == "active":
                life.state = "draining"
                self.tell(name, life)

    @rule(pick=picks, took_us=st.sampled_from([0, 3 * S, -(10**18), 10**18]))
    def get_on(self, pick: int, took_us: int) -> None:
        """What is under way gets on."""
        if chosen := self.one(pick, *NEXT):
            name, life = chosen
            life.state = NEXT[life.state]
            if life.state == "loading":
                life.facts.append(
                    events.MemberChanged(
                        now_us=0,
                        instance=name,
                        epoch=f"{life.epoch + 1}",
                        change=0,
                        state="loading",
                    )
                )
                return
            if life.state == "active" and not life.change:
                self.come_up(name)
                return
            self.tell(name, life, took_us)

    @rule(pick=picks)
    def crash(self, pick: int) -> None:
        if chosen := self.one(pick, "active", "draining", "silent", "waking"):
            name, life = chosen
            life.facts.append(
                events.MemberChanged(
                    now_us=0, instance=name, epoch=f"{life.epoch}", change=0, state="failed"
                )
            )
            life.state, life.change, life.orders = "failed", 0, []

    @rule(pick=picks, wake=st.booleans())
    def asked_by_a_person(self, pick: int, wake: bool) -> None:
        if chosen := self.one(pick):
            name = chosen[0]
            decision_sequence = max(self.now_us, self.sequences.get(name, 0) + 1)
            self.sequences[name] = decision_sequence
            self.feed(
                events.SleepDecisionRecalled(
                    now_us=self.now_us,
                    instance=name,
                    decision_sequence=decision_sequence,
                    wake=wake,
                    decided_by="manual",
                )
            )

    @rule(pick=picks)
    def refuse(self, pick: int) -> None:
        if (chosen := self.one(pick)) and chosen[1].orders:
            order = chosen[1].orders.pop()
            wake = isinstance(order, effects.DecideWake)
            self.feed(
                events.SleepDecisionRefused(
                    now_us=self.now_us,
                    instance=order.instance,
                    decision_sequence=order.decision_sequence,
                    wake=wake,
                )
            )

    @rule(up=st.integers(0, 3))
    def operate(self, up: int) -> None:
        """The operator does what was decided last; some of those that start stay pending."""
        if self.wish is None:
            return
        for pool in self.wish.pools:
            for name in pool.stop:
                if name in self.lives:
                    life = self.lives.pop(name)
                    life.facts.append(
                        events.MemberDecided(
                            now_us=0, instance=name, role=pool.role, node=name, run=False
                        )
                    )
                    life.facts.append(
                        events.MemberChanged(
                            now_us=0,
                            instance=name,
                            epoch=f"{life.epoch}",
                            change=0,
                            state="stopped",
                        )
                    )
                    while life.facts:
                        self.deliver(life)
            there = sum(life.role == pool.role for life in self.lives.values())
            for number in range(pool.exist - there):
                name = self.decided(pool.role, "ab"[number % 2])
                if number < up:
                    self.come_up(name)
        self.wish = None

    @rule()
    def restart(self) -> None:
        """The process starts anew from its image: remembered results are gone."""
        before = self.state
        image = msgspec.msgpack.encode(before)
        self.core = SPEC.build(msgspec.msgpack.decode(image, type=AutoscalerState))
        assert self.state == before

    @rule(ahead=st.integers(0, 3))
    def another(self, ahead: int) -> None:
        """The log holds a decision of another autoscaler."""
        generation, awake = self.state.decided.generation + ahead, dict.fromkeys(events.ROLES, 1)
        self.generation = max(self.generation, generation)
        self.last = None
        self.feed(
            events.ScaleRecalled(
                now_us=self.now_us, generation=generation, awake=awake, exist={}, at_us=self.now_us
            )
        )

    @invariant()
    def what_is_known_is_finite(self) -> None:
        for sums in (self.state.mix, self.state.slot):
            assert all(0 <= getattr(sums, name) < 1e30 for name in sums.__struct_fields__)


TestAnyFleet = AnyFleet.TestCase
TestAnyFleet.settings = settings(max_examples=examples(20), stateful_step_count=30)
