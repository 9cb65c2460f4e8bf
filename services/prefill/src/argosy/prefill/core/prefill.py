"""The states of a prompt at prefill.

    submitted -> computing -> held -> gone
                     \\-> failed -> gone

A prompt must be claimed within `claim_us` of its submission, and pulled within
`hold_us` of being both computed and claimed. A handoff that ends, however it ends,
frees what it claimed. So nothing stays pinned, whichever side dies.
"""

from enum import StrEnum

import msgspec

from argosy.domain.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle
from argosy.prefill.core import effects, events

SMOOTHING = 0.3
"""The weight of the newest step: the prediction follows a new kind of load within five steps."""
PREDICTION_CHANGE_US = 2_000
"""A smaller change is not published: routers place batches a few milliseconds ahead."""


class PromptPhase(StrEnum):
    """The state of a prompt."""

    COMPUTING = "computing"
    HELD = "held"
    FAILED = "failed"


class Prompt(msgspec.Struct):
    """A prompt that this instance has taken."""

    prompt_tokens: int
    phase: PromptPhase = PromptPhase.COMPUTING
    claimed: bool = False
    kv_blocks: int = 0
    reason: str = ""
    message: str = ""


class PrefillState(msgspec.Struct):
    """The state of prefill's core."""

    claim_us: int
    hold_us: int
    queue_limit: int
    prompts: dict[str, Prompt] = {}
    draining: bool = False
    us_per_token: float = 0.0
    """Learned from our own steps; 0: nothing learned yet."""
    step_started_us: int = 0
    backlog_tokens: int = 0
    """Prompt tokens to compute: those the last step left, and those that came since."""
    predicted_us: int = 0


class PrefillCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: PrefillState) -> None:
        self.state = state

    def step(self, event: events.PrefillEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case events.PromptsSubmitted():
                return self._submitted(event)
            case events.KvComputed():
                return self._computed(event)
            case events.ComputeFailed():
                return self._failed(event)
            case events.HandoffClaimed():
                return self._claimed(event.key, event.now_us)
            case events.HandoffEnded():
                return self._drop(event.key)
            case events.EngineStepEnded():
                return self._stepped(event)
            case DrainStarted():
                self.state.draining = True
                return [ReportIdle()] if not self.state.prompts else []
            case DrainAborted():
                return self._abort()
            case DrainEnded():
                self.state.draining = False
                return []
            case TimerFired():
                return self._expired(event.key)

    def _submitted(self, event: events.PromptsSubmitted) -> list[Effect]:
        state = self.state
        if state.draining:
            message = "this prefill instance takes none: it is to sleep or to stop"
            return [effects.RefuseSubmission(reason="DRAINING", message=message, retry_after_ms=0)]
        if len(state.prompts) + len(event.prompts) > state.queue_limit:
            message = f"{len(state.prompts)} prompts held of {state.queue_limit}"
            return [
                effects.RefuseSubmission(reason="OVERLOADED", message=message, retry_after_ms=1000)
            ]
        found: list[Effect] = []
        for prompt in event.prompts:
            if prompt.key not in state.prompts:
                state.prompts[prompt.key] = Prompt(prompt.prompt_tokens)
                if state.backlog_tokens == 0:
                    state.step_started_us = event.now_us
                state.backlog_tokens += prompt.prompt_tokens
                found.append(effects.StartCompute(key=prompt.key))
                found.append(SetTimer(key=prompt.key, at_us=event.now_us + state.claim_us))
        return found + self._predict(event.now_us)

    def _computed(self, event: events.KvComputed) -> list[Effect]:
        prompt = self.state.prompts.get(event.key)
        if prompt is None:
            return [effects.ReleaseKv(key=event.key)]
        prompt.phase, prompt.kv_blocks = PromptPhase.HELD, event.kv_blocks
        return self._offer(event.key, event.now_us) if prompt.claimed else []

    def _failed(self, event: events.ComputeFailed) -> list[Effect]:
        prompt = self.state.prompts.get(event.key)
        if prompt is None:
            return []
        prompt.phase, prompt.reason, prompt.message = (
            PromptPhase.FAILED,
            event.reason,
            event.message,
        )
        return self._refuse(event.key, prompt) if prompt.claimed else []

    def _claimed(self, key: str, now_us: int) -> list[Effect]:
        prompt = self.state.prompts.get(key)
        if prompt is None:
            message = f"request {key} is not here: never submitted, released or expired"
            return [effects.RefuseHandoff(key=key, reason="KV_LOST", message=message)]
        if prompt.claimed:
            return [
                effects.RefuseHandoff(
                    key=key, reason="TICKET_USED", message=f"request {key} is claimed already"
                )
            ]
        prompt.claimed = True
        if prompt.phase is PromptPhase.HELD:
            return self._offer(key, now_us)
        if prompt.phase is PromptPhase.FAILED:
            return self._refuse(key, prompt)
        return [CancelTimer(key=key)]

    def _offer(self, key: str, now_us: int) -> list[Effect]:
        return [effects.OfferKv(key=key), SetTimer(key=key, at_us=now_us + self.state.hold_us)]

    def _refuse(self, key: str, prompt: Prompt) -> list[Effect]:
        return [
            effects.RefuseHandoff(key=key, reason=prompt.reason, message=prompt.message),
            *self._drop(key),
        ]

    def _expired(self, key: str) -> list[Effect]:
        prompt = self.state.prompts.get(key)
        if prompt is None:
            return []
        refusal: list[Effect] = []
        if prompt.claimed:
            refusal.append(
                effects.RefuseHandoff(
                    key=key, reason="KV_LOST", message=f"KV of {key} was not pulled in time"
                )
            )
        return refusal + self._drop(key)

    def _abort(self) -> list[Effect]:
        """Drop every prompt. A decode that waits for one is refused, and goes on elsewhere."""
        found: list[Effect] = []
        if self.state.draining:
            for key, prompt in list(self.state.prompts.items()):
                if prompt.claimed:
                    message = "this prefill instance is to sleep or to stop: go on elsewhere"
                    found.append(effects.RefuseHandoff(key=key, reason="DRAINING", message=message))
                found += self._drop(key)
        return found

    def _drop(self, key: str) -> list[Effect]:
        prompt = self.state.prompts.pop(key, None)
        if prompt is None:
            return []
        found: list[Effect] = [CancelTimer(key=key)]
        if prompt.phase is PromptPhase.COMPUTING:
            self.state.backlog_tokens = max(0, self.state.backlog_tokens - prompt.prompt_tokens)
            found.append(effects.CancelCompute(key=key))
        else:
            found.append(effects.ReleaseKv(key=key))
        if self.state.draining and not self.state.prompts:
            found.append(ReportIdle())
        return found

    def _stepped(self, event: events.EngineStepEnded) -> list[Effect]:
        """Learn from the step that just ended."""
        state = self.state
        computed = state.backlog_tokens - event.queued_prefill_tokens
        state.backlog_tokens = event.queued_prefill_tokens
        if computed <= 0:
            return []
        us_per_token = (event.now_us - state.step_started_us) / computed
        share = SMOOTHING if state.us_per_token else 1.0
        state.us_per_token += share * (us_per_token - state.us_per_token)
        state.step_started_us = event.now_us
        return self._predict(event.now_us)

    def _predict(self, now_us: int) -> list[Effect]:
        """Publish when the backlog will be empty, if that is known and has changed."""
        state = self.state
        idle_at_us = now_us + round(state.backlog_tokens * state.us_per_token)
        news = abs(idle_at_us - state.predicted_us) >= PREDICTION_CHANGE_US
        if not state.us_per_token or not news:
            return []
        state.predicted_us = idle_at_us
        return [
            effects.PredictIdle(idle_at_us=idle_at_us, queued_prefill_tokens=state.backlog_tokens)
        ]


SPEC = CoreSpec("prefill", events.PrefillEvent, PrefillState, PrefillCore)
