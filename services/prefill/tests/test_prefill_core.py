from typing import Any, TypeVar

import msgspec
import pytest

from argosy.domain.core import CancelTimer, Effect, SetTimer, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle
from argosy.prefill.core import effects, events
from argosy.prefill.core.prefill import PrefillCore, PrefillState

MS, S = 1_000, 1_000_000
CLAIM_US, HOLD_US = 30 * S, 10 * S
E = TypeVar("E", bound=Effect)


class Prefill:
    """A prefill core with a clock; its timers fire as `pass_time` goes by them."""

    def __init__(self, queue_limit: int = 8) -> None:
        self.state = PrefillState(CLAIM_US, HOLD_US, queue_limit)
        self.core = PrefillCore(self.state)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}

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

    def submit(self, *keys: str, tokens: int = 100) -> list[Effect]:
        return self.feed(
            events.PromptsSubmitted, prompts=[events.SubmittedPrompt(key, tokens) for key in keys]
        )

    def computed(self, key: str = "a") -> list[Effect]:
        return self.feed(events.KvComputed, key=key, kv_blocks=4)

    def claim(self, key: str = "a") -> list[Effect]:
        return self.feed(events.HandoffClaimed, key=key)

    def step(self, queued_tokens: int) -> list[Effect]:
        return self.feed(events.EngineStepEnded, queued_prefill_tokens=queued_tokens)


@pytest.fixture
def prefill() -> Prefill:
    return Prefill()


@pytest.fixture
def holding(prefill: Prefill) -> Prefill:
    """Prompt a: computed, claimed, offered."""
    prefill.submit("a")
    prefill.computed()
    prefill.claim()
    return prefill


def one(kind: type[E], decided: list[Effect]) -> E:
    (found,) = (effect for effect in decided if isinstance(effect, kind))
    return found


# -- how long KV is held


def test_a_submitted_prompt_is_computed(prefill: Prefill) -> None:
    assert prefill.submit("a", "b") == [
        effects.StartCompute(key="a"),
        effects.StartCompute(key="b"),
    ]


def test_kv_is_offered_to_whoever_claimed_before_it_was_computed(prefill: Prefill) -> None:
    prefill.submit("a")
    assert prefill.claim() == []
    assert prefill.computed() == [effects.OfferKv(key="a")]


def test_kv_is_offered_to_whoever_claims_after_it_was_computed(prefill: Prefill) -> None:
    prefill.submit("a")
    assert prefill.computed() == []
    assert prefill.claim() == [effects.OfferKv(key="a")]


def test_kv_is_kept_until_it_is_pulled(holding: Prefill) -> None:
    assert holding.pass_time(HOLD_US - 1) == []
    assert holding.feed(events.HandoffEnded, key="a", pulled=True) == [effects.ReleaseKv(key="a")]
    assert (holding.state.prompts, holding.timers) == ({}, {})


def test_kv_that_is_not_pulled_in_time_is_released_and_its_claimer_told(holding: Prefill) -> None:
    expired = holding.pass_time(HOLD_US)
    assert one(effects.RefuseHandoff, expired).reason == "KV_LOST"
    assert one(effects.ReleaseKv, expired).key == "a"


def test_kv_stranded_when_a_caller_aborts_between_prefill_and_decode(holding: Prefill) -> None:
    assert holding.feed(events.HandoffEnded, key="a", pulled=False) == [effects.ReleaseKv(key="a")]


def test_kv_that_nobody_claims_is_released(prefill: Prefill) -> None:
    prefill.submit("a")
    prefill.computed()
    assert prefill.pass_time(CLAIM_US - 1) == []
    assert prefill.pass_time(1) == [effects.ReleaseKv(key="a")]


def test_a_prompt_that_nobody_claims_is_dropped_while_it_is_computing(prefill: Prefill) -> None:
    prefill.submit("a")
    assert prefill.pass_time(CLAIM_US) == [effects.CancelCompute(key="a")]
    assert prefill.state.prompts == {}


def test_a_claimed_prompt_may_take_longer_to_compute_than_claims_may_take(prefill: Prefill) -> None:
    prefill.submit("a")
    prefill.claim()
    assert prefill.pass_time(10 * CLAIM_US) == []
    assert prefill.computed() == [effects.OfferKv(key="a")]


def test_a_claimer_that_goes_away_stops_the_computing(prefill: Prefill) -> None:
    prefill.submit("a")
    prefill.claim()
    assert prefill.feed(events.HandoffEnded, key="a", pulled=False) == [
        effects.CancelCompute(key="a")
    ]


def test_kv_computed_for_a_prompt_given_up_is_released(prefill: Prefill) -> None:
    assert prefill.computed("given-up") == [effects.ReleaseKv(key="given-up")]


# -- claims that cannot be met


def test_a_claim_of_what_is_not_here_is_lost_kv(prefill: Prefill) -> None:
    refused = one(effects.RefuseHandoff, prefill.claim("nobody"))
    assert (refused.reason, "nobody" in refused.message) == ("KV_LOST", True)


def test_a_second_claim_is_refused_and_the_first_stands(holding: Prefill) -> None:
    assert one(effects.RefuseHandoff, holding.claim()).reason == "TICKET_USED"
    assert holding.feed(events.HandoffEnded, key="a", pulled=True) == [effects.ReleaseKv(key="a")]


@pytest.mark.parametrize("claimed_first", [True, False])
def test_a_failure_reaches_the_claimer_whenever_it_claims(
    prefill: Prefill, claimed_first: bool
) -> None:
    prefill.submit("a")
    happened = [
        (events.HandoffClaimed, {"key": "a"}),
        (events.ComputeFailed, {"key": "a", "reason": "BAD_REQUEST", "message": "too odd"}),
    ]
    found = [
        effect
        for kind, fields in (happened if claimed_first else reversed(happened))
        for effect in prefill.feed(kind, **fields)
    ]
    assert found == [
        effects.RefuseHandoff(key="a", reason="BAD_REQUEST", message="too odd"),
        effects.ReleaseKv(key="a"),
    ]
    assert (prefill.state.prompts, prefill.timers) == ({}, {})


def test_a_failure_nobody_asks_for_is_forgotten(prefill: Prefill) -> None:
    prefill.submit("a")
    prefill.feed(events.ComputeFailed, key="a", reason="BAD_REQUEST", message="too odd")
    prefill.pass_time(CLAIM_US)
    assert prefill.state.prompts == {}


# -- what is refused


def test_a_full_queue_refuses_all_of_a_submission() -> None:
    prefill = Prefill(queue_limit=2)
    prefill.submit("a")
    refused = one(effects.RefuseSubmission, prefill.submit("b", "c"))
    assert (refused.reason, refused.retry_after_ms > 0) == ("OVERLOADED", True)
    assert list(prefill.state.prompts) == ["a"]


def test_a_prompt_submitted_twice_is_computed_once(prefill: Prefill) -> None:
    prefill.submit("a")
    assert prefill.submit("a") == []


def test_a_draining_instance_takes_no_prompt(prefill: Prefill) -> None:
    prefill.feed(DrainStarted)
    assert one(effects.RefuseSubmission, prefill.submit("a")).reason == "DRAINING"


def test_an_empty_instance_is_drained_at_once(prefill: Prefill) -> None:
    assert prefill.feed(DrainStarted) == [ReportIdle()]


def test_a_drain_ends_when_the_last_prompt_is_pulled(holding: Prefill) -> None:
    holding.submit("b")
    assert holding.feed(DrainStarted) == []
    assert holding.feed(events.HandoffEnded, key="a", pulled=True) == [effects.ReleaseKv(key="a")]
    assert holding.pass_time(CLAIM_US) == [effects.CancelCompute(key="b"), ReportIdle()]


def test_a_cut_lets_go_of_every_prompt_and_tells_who_waits_for_one(holding: Prefill) -> None:
    holding.submit("b")
    holding.feed(DrainStarted)
    found = holding.feed(DrainAborted)
    refused = one(effects.RefuseHandoff, found)
    assert (refused.key, refused.reason) == ("a", "DRAINING")
    assert found[1:] == [effects.ReleaseKv(key="a"), effects.CancelCompute(key="b"), ReportIdle()]
    assert holding.timers == {}


@pytest.mark.parametrize("ended", [False, True])
def test_a_cut_that_comes_when_no_drain_is_under_way_lets_go_of_nothing(
    holding: Prefill, ended: bool
) -> None:
    if ended:
        holding.feed(DrainStarted)
        holding.feed(DrainEnded)
    assert holding.feed(DrainAborted) == []
    assert set(holding.state.prompts) == {"a"}


def test_a_drain_that_was_turned_round_takes_prompts_and_reports_no_idleness(
    holding: Prefill,
) -> None:
    holding.feed(DrainStarted)
    assert holding.feed(DrainEnded) == []
    assert holding.submit("b") == [effects.StartCompute(key="b")]
    assert holding.feed(events.HandoffEnded, key="a", pulled=True) == [effects.ReleaseKv(key="a")]


# -- when it will be idle


@pytest.mark.parametrize("us_per_token", [100, 1_500])
def test_idle_is_predicted_within_a_fifth_once_a_step_was_seen(us_per_token: int) -> None:
    prefill = Prefill()
    prefill.submit("a", tokens=4_000)
    for left in (3_500, 3_000, 2_500):
        prefill.pass_time(500 * us_per_token)
        found = prefill.step(left)
    truth_us = 2_500 * us_per_token
    predicted = one(effects.PredictIdle, found) if found else None
    idle_at_us = predicted.idle_at_us if predicted else prefill.state.predicted_us
    assert abs(idle_at_us - prefill.now_us - truth_us) < truth_us / 5


def test_prompts_of_one_step_each_teach_their_speed(prefill: Prefill) -> None:
    for name in "abc":
        prefill.submit(name, tokens=400)
        prefill.pass_time(40 * MS)
        prefill.step(0)
        prefill.pass_time(3 * S)
    predicted = one(effects.PredictIdle, prefill.submit("d", tokens=800))
    assert abs(predicted.idle_at_us - prefill.now_us - 80 * MS) < 16 * MS


def test_a_prediction_follows_an_engine_that_became_slower(prefill: Prefill) -> None:
    prefill.submit("a", tokens=10_000)
    for number in range(1, 20):
        prefill.pass_time(100 * (100 if number < 5 else 400))
        prefill.step(10_000 - 100 * number)
    left_us = prefill.state.predicted_us - prefill.now_us
    assert abs(left_us - 8_100 * 400) < 8_100 * 400 / 5


def test_nothing_is_predicted_before_anything_was_learned(prefill: Prefill) -> None:
    assert prefill.submit("a", tokens=4_000) == [effects.StartCompute(key="a")]


def test_a_prediction_that_did_not_change_is_not_sent_again(prefill: Prefill) -> None:
    prefill.submit("a", tokens=4_000)
    sent = []
    for left in range(3_500, 0, -500):
        prefill.pass_time(50 * MS)
        sent += prefill.step(left)
    assert len(sent) == 1


def test_prompts_given_up_do_not_make_the_engine_look_fast(prefill: Prefill) -> None:
    prefill.submit("a", tokens=1_000)
    prefill.claim("a")
    prefill.submit("b", tokens=9_000)
    prefill.claim("b")
    prefill.feed(events.HandoffEnded, key="b", pulled=False)
    prefill.pass_time(50 * MS)
    prefill.step(500)
    assert abs(prefill.state.predicted_us - prefill.now_us - 50 * MS) < 10 * MS


def test_state_survives_its_encoding(holding: Prefill) -> None:
    encoded = msgspec.msgpack.encode(holding.state)
    assert msgspec.msgpack.decode(encoded, type=PrefillState) == holding.state
