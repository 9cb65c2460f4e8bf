"""What holds in prefill's core whatever happens, in whatever order."""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from suite_plugin import examples

from argosy.domain.core import CancelTimer, Effect, Event, SetTimer, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle
from argosy.prefill.core import effects, events
from argosy.prefill.core.prefill import SPEC, PrefillState

MS, S = 1_000, 1_000_000
CLAIM_US, HOLD_US, QUEUE_LIMIT = 30 * S, 10 * S, 4

keys = st.sampled_from([f"r{number}/0" for number in range(6)])


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


class AnyPrefillOrder(RuleBasedStateMachine):
    """Feeds the core as a shell would, and a twin that is made anew before every event."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SPEC.build(PrefillState(CLAIM_US, HOLD_US, QUEUE_LIMIT))
        self.twin_state = PrefillState(CLAIM_US, HOLD_US, QUEUE_LIMIT)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.computing: set[str] = set()
        self.held: set[str] = set()
        """Taken from the engine and not given back."""
        self.handoffs: dict[str, bool] = {}
        """Open ones; True once the handle was offered."""
        self.draining = False
        self.refused_all = False

    @property
    def prompts(self) -> dict[str, Any]:
        state = self.core.state
        assert isinstance(state, PrefillState)
        return state.prompts

    # -- the shell's part

    def feed(self, event: Event) -> None:
        decided = self.core.step(event)
        assert msgspec.msgpack.encode(decided) == self.replayed(event)
        ended = [effect.key for effect in decided if self.perform(effect)]
        for key in ended:
            self.end(key, False)
        idle = any(isinstance(effect, ReportIdle) for effect in decided)
        assert not idle or (self.draining and not self.prompts)

    def replayed(self, event: Event) -> bytes:
        twin = SPEC.build(round_trip(self.twin_state, SPEC.state))
        decided = twin.step(round_trip(event, SPEC.events))
        self.twin_state = twin.state
        return msgspec.msgpack.encode(decided)

    def perform(self, effect: Effect) -> bool:
        """True if the effect ended an open handoff."""
        match effect:
            case SetTimer():
                self.timers[effect.key] = effect.at_us
            case CancelTimer():
                self.timers.pop(effect.key, None)
            case effects.StartCompute():
                assert effect.key not in self.computing | self.held
                self.computing.add(effect.key)
            case effects.CancelCompute():
                self.computing.remove(effect.key)
            case effects.ReleaseKv():
                self.held.remove(effect.key)
            case effects.OfferKv():
                assert effect.key in self.held
                assert self.handoffs[effect.key] is False
                self.handoffs[effect.key] = True
            case effects.RefuseHandoff():
                return effect.key in self.handoffs
            case effects.RefuseSubmission():
                self.refused_all = True
        return False

    def end(self, key: str, pulled: bool) -> None:
        del self.handoffs[key]
        self.feed(events.HandoffEnded(now_us=self.now_us, key=key, pulled=pulled))

    # -- what happens

    @rule(us=st.sampled_from([MS, S, HOLD_US, CLAIM_US]))
    def pass_time(self, us: int) -> None:
        until_us = self.now_us + us
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            self.feed(TimerFired(now_us=self.now_us, key=key))
        self.now_us = until_us

    @rule(submitted=st.lists(keys, min_size=1, max_size=3, unique=True))
    def submit(self, submitted: list[str]) -> None:
        before, self.refused_all = set(self.prompts), False
        prompts = [events.SubmittedPrompt(key, 100) for key in submitted]
        self.feed(events.PromptsSubmitted(now_us=self.now_us, prompts=prompts))
        expected = before if self.refused_all else before | set(submitted)
        assert set(self.prompts) == expected

    @precondition(lambda self: self.computing)
    @rule(data=st.data(), fails=st.booleans())
    def compute(self, data: st.DataObject, fails: bool) -> None:
        self.finish_computing(data.draw(st.sampled_from(sorted(self.computing))), fails)

    def finish_computing(self, key: str, fails: bool) -> None:
        self.computing.remove(key)
        self.held.add(key)
        if fails:
            self.feed(
                events.ComputeFailed(
                    now_us=self.now_us, key=key, reason="INSTANCE_LOST", message="it broke"
                )
            )
        else:
            self.feed(events.KvComputed(now_us=self.now_us, key=key, kv_blocks=4))

    @rule(key=keys)
    def claim(self, key: str) -> None:
        if key not in self.handoffs:
            self.handoffs[key] = False
            self.feed(events.HandoffClaimed(now_us=self.now_us, key=key))

    @precondition(lambda self: self.handoffs)
    @rule(data=st.data())
    def pull_or_hang_up(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.handoffs)))
        self.end(key, self.handoffs[key])

    @rule(queued=st.integers(0, 2000))
    def step_engine(self, queued: int) -> None:
        self.feed(events.EngineStepEnded(now_us=self.now_us, queued_prefill_tokens=queued))

    @rule()
    def drain(self) -> None:
        self.draining = True
        self.feed(DrainStarted(now_us=self.now_us))

    @rule()
    def turn_round(self) -> None:
        self.draining = False
        self.feed(DrainEnded(now_us=self.now_us))

    @rule()
    def abort(self) -> None:
        self.feed(DrainAborted(now_us=self.now_us))
        assert not (self.draining and self.prompts)

    @invariant()
    def the_engine_has_what_the_core_answers_for(self) -> None:
        assert set(self.prompts) == self.computing | self.held
        assert len(self.prompts) <= QUEUE_LIMIT
        assert set(self.timers) <= set(self.prompts)

    def teardown(self) -> None:
        """Once the engine is done and all timers fired, nothing stays pinned."""
        for key in sorted(self.computing):
            self.finish_computing(key, fails=False)
        self.pass_time(CLAIM_US + HOLD_US)
        assert not self.prompts
        assert not self.held
        assert not self.handoffs


TestAnyOrder = AnyPrefillOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(60), stateful_step_count=40)
