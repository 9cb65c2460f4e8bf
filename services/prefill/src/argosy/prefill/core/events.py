"""What happens to prefill. A `key` names one attempt at a request."""

import msgspec

from argosy.domain.core import Event, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted


class SubmittedPrompt(msgspec.Struct, frozen=True):
    """One prompt of a submission."""

    key: str
    prompt_tokens: int


class PromptsSubmitted(Event, frozen=True, kw_only=True, tag=True):
    """The router wants these computed: all of them or none."""

    prompts: list[SubmittedPrompt]


class KvComputed(Event, frozen=True, kw_only=True, tag=True):
    """The engine holds the prompt's KV."""

    key: str
    kv_blocks: int


class ComputeFailed(Event, frozen=True, kw_only=True, tag=True):
    """The engine could not; `reason` is a name of errors.Reason."""

    key: str
    reason: str
    message: str


class HandoffClaimed(Event, frozen=True, kw_only=True, tag=True):
    """Decode asks for the prompt's KV."""

    key: str


class HandoffEnded(Event, frozen=True, kw_only=True, tag=True):
    """Decode has pulled the KV, or its stream ended without."""

    key: str
    pulled: bool


class EngineStepEnded(Event, frozen=True, kw_only=True, tag=True):
    """The engine finished a step and has this much left."""

    queued_prefill_tokens: int


PrefillEvent = (
    PromptsSubmitted
    | KvComputed
    | ComputeFailed
    | HandoffClaimed
    | HandoffEnded
    | EngineStepEnded
    | DrainStarted
    | DrainAborted
    | DrainEnded
    | TimerFired
)
