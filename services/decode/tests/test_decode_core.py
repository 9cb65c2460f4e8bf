from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from suite_plugin import examples

from argosy.decode.core import effects, events
from argosy.decode.core.decode import SPEC, DecodeCore, DecodeState
from argosy.domain.core import Effect, Event, SetTimer, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle

S = 1_000_000
ME = "decode-0"


class Decode:
    """A decode core with a clock; its timers fire as `pass_time` goes by them."""

    def __init__(self, queue_limit: int = 4) -> None:
        self.state = DecodeState(ME, queue_limit)
        self.core = DecodeCore(self.state)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}

    def feed(self, kind: Any, **fields: Any) -> list[Effect]:
        return self.step(kind(now_us=self.now_us, **fields))

    def step(self, event: Event) -> list[Effect]:
        decided = self.decide(event)
        for effect in decided:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.at_us
        return [effect for effect in decided if not isinstance(effect, SetTimer)]

    def decide(self, event: Event) -> list[Effect]:
        return self.core.step(event)

    def pass_time(self, us: int) -> list[Effect]:
        until_us, found = self.now_us + us, []
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = due[0]
            del self.timers[key]
            found += self.feed(TimerFired, key=key)
        self.now_us = until_us
        return found

    def present(
        self,
        key: str,
        *,
        prefill: str = "prefill-0",
        decode: str = ME,
        within_us: int = 30 * S,
        ticket: str = "",
        brought: bool = False,
    ) -> list[Effect]:
        expires_us = self.now_us + within_us
        return self.feed(
            events.TicketPresented,
            key=key,
            prefill_instance=prefill,
            decode_instance=decode,
            expires_us=expires_us,
            ticket=ticket,
            brought=brought,
        )

    def end(self, key: str) -> list[Effect]:
        return self.feed(events.AnswerEnded, key=key)


@pytest.fixture
def decode() -> Decode:
    return Decode()


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


def reason_of(decided: list[Effect]) -> str:
    (refused,) = decided
    assert isinstance(refused, effects.RefuseTicket)
    return refused.reason


def test_a_ticket_from_a_prefill_instance_leads_to_a_pull(decode: Decode) -> None:
    assert decode.present("a/0") == [effects.PullAndAnswer(key="a/0")]


def test_a_ticket_that_brings_its_prompt_leads_to_computing_it_here(decode: Decode) -> None:
    assert decode.present("a/0", prefill=ME, brought=True) == [effects.ComputeAndAnswer(key="a/0")]


@pytest.mark.parametrize("answer_is_over", [True, False])
def test_a_ticket_is_good_once(decode: Decode, answer_is_over: bool) -> None:
    decode.present("a/0")
    if answer_is_over:
        decode.end("a/0")
    assert reason_of(decode.present("a/0")) == "TICKET_USED"


def test_another_attempt_at_the_request_has_a_ticket_of_its_own(decode: Decode) -> None:
    decode.present("a/0")
    assert decode.present("a/1") == [effects.PullAndAnswer(key="a/1")]


def test_a_new_ticket_for_the_same_request_is_good_once_its_answer_is_over(decode: Decode) -> None:
    decode.present("a/0", ticket="first")
    assert reason_of(decode.present("a/0", ticket="second")) == "TICKET_USED"
    decode.end("a/0")
    assert decode.present("a/0", ticket="second") == [effects.PullAndAnswer(key="a/0")]


@pytest.mark.parametrize(("within_us", "good"), [(1, True), (0, False), (-S, False)])
def test_a_ticket_is_good_before_it_expires(decode: Decode, within_us: int, good: bool) -> None:
    presented = decode.present("a/0", within_us=within_us)
    assert good == (presented == [effects.PullAndAnswer(key="a/0")])
    assert good or reason_of(presented) == "TICKET_EXPIRED"


def test_a_ticket_is_only_good_at_its_instance(decode: Decode) -> None:
    assert reason_of(decode.present("a/0", decode="decode-1")) == "TICKET_MISDIRECTED"
    assert decode.present("a/0") == [effects.PullAndAnswer(key="a/0")]


def test_a_ticket_without_the_prompt_to_be_computed_here_is_refused(decode: Decode) -> None:
    assert reason_of(decode.present("a/0", prefill=ME)) == "BAD_REQUEST"
    assert decode.present("a/0", prefill=ME, brought=True) == [effects.ComputeAndAnswer(key="a/0")]


def test_used_tickets_are_remembered_until_they_would_have_expired(decode: Decode) -> None:
    decode.present("a/0", within_us=10 * S)
    decode.end("a/0")
    decode.pass_time(10 * S - 1)
    assert list(decode.state.seen) == ["a/0"]
    decode.pass_time(1)
    assert (decode.state.seen, decode.timers) == ({}, {})


def test_an_answer_that_outlives_its_ticket_cannot_be_begun_again(decode: Decode) -> None:
    decode.present("a/0", within_us=S)
    decode.pass_time(2 * S)
    assert reason_of(decode.present("a/0")) == "TICKET_USED"


def test_answers_up_to_the_limit_are_taken_and_then_refused() -> None:
    decode = Decode(queue_limit=2)
    for key in ("a/0", "b/0"):
        assert decode.present(key) == [effects.PullAndAnswer(key=key)]
    assert reason_of(decode.present("c/0")) == "OVERLOADED"
    decode.end("a/0")
    assert decode.present("c/0") == [effects.PullAndAnswer(key="c/0")]


def test_a_draining_instance_takes_no_tickets(decode: Decode) -> None:
    decode.feed(DrainStarted)
    assert reason_of(decode.present("a/0")) == "DRAINING"
    assert reason_of(decode.present("a/0", prefill=ME, brought=True)) == "DRAINING"


def test_scale_down_aborting_requests(decode: Decode) -> None:
    """A drain waits for every answer under way."""
    decode.present("a/0")
    decode.present("b/0")
    assert decode.feed(DrainStarted) == []
    assert decode.end("a/0") == []
    assert decode.end("b/0") == [ReportIdle()]


def test_an_instance_without_answers_is_drained_at_once(decode: Decode) -> None:
    assert decode.feed(DrainStarted) == [ReportIdle()]


def test_a_cut_ends_every_answer_under_way_and_each_is_waited_for(decode: Decode) -> None:
    """Their callers go on elsewhere, once they have heard of it."""
    decode.present("a/0")
    decode.present("b/0", prefill=ME, brought=True)
    decode.feed(DrainStarted)
    assert decode.feed(DrainAborted) == [effects.EndAnswer(key="a/0"), effects.EndAnswer(key="b/0")]
    assert decode.end("b/0") == []
    assert decode.end("a/0") == [ReportIdle()]


@pytest.mark.parametrize("ended", [False, True])
def test_a_cut_that_comes_when_no_drain_is_under_way_ends_nothing(
    decode: Decode, ended: bool
) -> None:
    decode.present("a/0")
    if ended:
        decode.feed(DrainStarted)
        decode.feed(DrainEnded)
    assert decode.feed(DrainAborted) == []


def test_a_drain_that_was_turned_round_takes_tickets_and_reports_no_idleness(
    decode: Decode,
) -> None:
    decode.present("a/0")
    decode.feed(DrainStarted)
    assert decode.feed(DrainEnded) == []
    assert decode.present("b/0") == [effects.PullAndAnswer(key="b/0")]
    assert decode.end("a/0") == decode.end("b/0") == []


class Twins(Decode):
    """A core and a twin that is made anew before every event: they decide the same."""

    def __init__(self, queue_limit: int) -> None:
        super().__init__(queue_limit)
        self.twin_state = round_trip(self.state, DecodeState)

    def decide(self, event: Event) -> list[Effect]:
        twin = SPEC.build(round_trip(self.twin_state, DecodeState))
        decided = self.core.step(event)
        assert twin.step(round_trip(event, SPEC.events)) == decided
        self.twin_state = twin.state
        return decided


class AnyDecodeOrder(RuleBasedStateMachine):
    """Presents, ends and waits."""

    keys = st.sampled_from(["a/0", "a/1", "b/0"])

    def __init__(self) -> None:
        super().__init__()
        self.decode = Twins(queue_limit=3)
        self.answering: set[str] = set()
        self.good_until_us: dict[str, int] = {}
        self.draining = False

    @rule()
    def drain(self) -> None:
        self.draining = True
        idle = self.decode.feed(DrainStarted)
        assert idle == ([] if self.answering else [ReportIdle()])

    @rule()
    def turn_round(self) -> None:
        self.draining = False
        assert self.decode.feed(DrainEnded) == []

    @rule()
    def abort(self) -> None:
        ended = self.decode.feed(DrainAborted)
        assert {effect.key for effect in ended if isinstance(effect, effects.EndAnswer)} == (
            self.answering if self.draining else set()
        )

    @rule(us=st.sampled_from([1, S, 20 * S, 30 * S]))
    def pass_time(self, us: int) -> None:
        assert self.decode.pass_time(us) == []

    @rule(
        key=keys,
        number=st.integers(1, 2),
        local=st.booleans(),
        brought=st.booleans(),
        within_us=st.sampled_from([-S, S, 40 * S]),
    )
    def present(self, key: str, number: int, local: bool, brought: bool, within_us: int) -> None:
        now_us, ticket = self.decode.now_us, f"{key} {number}"
        used = now_us < self.good_until_us.get(ticket, 0) or key in self.answering
        source = ME if local else "prefill-0"
        (decided,) = self.decode.present(
            key, prefill=source, within_us=within_us, ticket=ticket, brought=brought
        )
        if isinstance(decided, effects.RefuseTicket):
            return
        assert within_us > 0
        assert not self.draining
        assert not used
        assert isinstance(decided, effects.ComputeAndAnswer) == local
        assert brought or not local
        self.answering.add(key)
        self.good_until_us[ticket] = now_us + within_us

    @precondition(lambda self: self.answering)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.answering)))
        self.answering.remove(key)
        idle = self.draining and not self.answering
        assert self.decode.end(key) == ([ReportIdle()] if idle else [])

    @invariant()
    def it_remembers_what_it_must_and_no_more(self) -> None:
        state, now_us = self.decode.state, self.decode.now_us
        assert set(state.answering) == self.answering
        assert len(state.answering) <= state.queue_limit
        unexpired = {key for key, until_us in self.good_until_us.items() if until_us > now_us}
        assert set(state.seen) == unexpired
        assert set(self.decode.timers) == set(state.seen)

    def teardown(self) -> None:
        self.pass_time(60 * S)
        assert not self.decode.state.seen


TestAnyOrder = AnyDecodeOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(60), stateful_step_count=40)
