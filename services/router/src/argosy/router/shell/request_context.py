"""A request under way, and the prompt that each attempt gets."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from argosy.domain.kv_blocks import digest_of
from argosy.wire.inference.v1 import inference_pb2


def new_nonce() -> str:
    """A nonce that tells requests with the same id apart.

    It has to differ, not to be secret: the kernel's randomness costs 50 times as much.
    """
    return f"{random.getrandbits(32):08x}"


def new_request_id() -> str:
    """A request id, for callers that do not choose one."""
    return f"{random.getrandbits(128):032x}"


@dataclass
class RequestContext:
    """One request under way. blocks: chained hashes of the prompt's full KV blocks."""

    request_id: str
    model: str
    sampling: inference_pb2.Sampling
    prompt_ids: Sequence[int]
    blocks: list[int]
    salt: str
    deadline_us: int
    tenant: str = ""
    priority: int = 0
    cached_tokens: int | None = None
    """As the answer's usage said."""
    produced: list[int] = field(default_factory=list)
    attempts: int = 1
    nonce: str = field(default_factory=new_nonce)

    @property
    def blocks_digest(self) -> int:
        """Names the prompt in its ticket."""
        return digest_of(self.blocks)

    @property
    def instance_request_id(self) -> str:
        """What instances call it: callers choose request ids, and may choose the same."""
        return f"{self.request_id}.{self.nonce}"

    @property
    def regenerates(self) -> bool:
        """Whether the engine has to see the whole answer, not a prompt that holds some of it.

        The form of an answer and two of the penalties look at all of it; a seed's draws come in a
        fixed order. A repetition penalty counts the prompt as well, so that it does not matter
        where the prompt ends; biases look at nothing; and of min_tokens the instance subtracts
        Prompt.resumed_tokens.
        """
        sampling = self.sampling
        form = any(sampling.HasField(name) for name in ("json_schema", "regex", "grammar"))
        greedy = sampling.HasField("temperature") and sampling.temperature == 0
        seeded = sampling.HasField("seed") and not greedy
        penalised = sampling.presence_penalty or sampling.frequency_penalty
        return bool(form or sampling.choice or seeded or penalised)

    def sibling(self, number: int) -> "RequestContext":
        """A request for one more answer to the same prompt. It shares what does not change."""
        sampling = self.sampling
        if sampling.HasField("seed"):
            sampling = inference_pb2.Sampling()
            sampling.CopyFrom(self.sampling)
            # Exclusive or: a seed of its own for each, and none outgrows the field.
            sampling.seed ^= number
        return replace(
            self,
            request_id=new_request_id(),
            sampling=sampling,
            cached_tokens=None,
            produced=[],
            attempts=1,
            nonce=new_nonce(),
        )

    def prompt(self, attempt: int, dp_rank: int = 0, traceparent: str = "") -> inference_pb2.Prompt:
        """The prompt for the next attempt."""
        prompt = inference_pb2.Prompt(
            request_id=self.instance_request_id,
            attempt=attempt,
            sampling=self.sampling,
            cache_salt=self.salt,
            token_ids=self.prompt_ids,
            deadline_ms=self.deadline_us // 1000,
            traceparent=traceparent,
            dp_rank=dp_rank,
        )
        if not self.produced:
            return prompt
        if self.regenerates:
            prompt.sent_token_ids.extend(self.produced)
        else:
            prompt.token_ids.extend(self.produced)
            prompt.resumed_tokens = len(self.produced)
            prompt.sampling.max_tokens = self.sampling.max_tokens - len(self.produced)
        return prompt
