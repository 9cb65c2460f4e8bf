"""The engine protocol: what every engine takes, yields and reports."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from argosy.domain.timing import Timing

SleepLevel = Literal["dram", "disk"]
"""Where weights are while an engine sleeps: in host memory, or only in the model's files."""


class SamplingSpec(msgspec.Struct, frozen=True):
    """How to choose tokens; the fields mean what they mean in the contract."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    top_logprobs: int | None = None
    ignore_eos: bool = False
    json_schema: str | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    """Of what this engine is to produce."""
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: dict[int, float] = {}
    regex: str | None = None
    choice: tuple[str, ...] = ()
    grammar: str | None = None

    @property
    def structured(self) -> bool:
        """Whether the answer has a form to keep to."""
        forms = (self.json_schema, self.regex, self.grammar)
        return bool(self.choice) or any(form is not None for form in forms)


class Preload(msgspec.Struct, frozen=True):
    """KV of a prompt's blocks from `first_block` on, in these staging slots.

    It is complete and its checksums match: loading it cannot fail.
    """

    name: str
    """Names this one load."""
    first_block: int
    slots: list[int]


class EngineRequest(msgspec.Struct, frozen=True):
    """One prompt for an engine.

    produce: compute the prompt's KV, hold it for a puller, and give its handle.
    kv_handle: pull the prompt's KV with this handle instead of computing it.
    preload: load this KV instead of computing it, as far as the engine does not have it.
    stored_blocks: how many leading blocks the KV stores have, so that the others are staged even
        if they are not computed; None: not known, and what is computed is staged.
    """

    request_id: str
    token_ids: list[int]
    sampling: SamplingSpec
    cache_salt: str = ""
    produce: bool = False
    kv_handle: bytes | None = None
    dp_rank: int = 0
    preload: Preload | None = None
    stored_blocks: int | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """One position: the chosen token's logprob and those of the likeliest tokens."""

    token_id: int
    logprob: float
    top: dict[int, float]


class EngineOutput(msgspec.Struct, frozen=True):
    """New tokens of one request. `finish` ("stop" or "length") is set on the last."""

    token_ids: list[int]
    logprobs: list[Logprobs] | None = None
    finish: str | None = None
    cached_tokens: int = 0
    kv_handle: bytes | None = None
    """On the last output of a `produce` request."""
    transferred_bytes: int = 0
    """Bytes of KV pulled for the request since its last output; 0 also if not known."""


class EngineStats(msgspec.Struct, frozen=True):
    """What an engine has to do, as of its last step."""

    running_requests: int = 0
    waiting_requests: int = 0
    queued_prefill_tokens: int = 0
    kv_used_blocks: int = 0
    step_us: int = 0
    """How long the last step took."""
    ranks: "tuple[EngineStats, ...]" = ()
    """The same for each data-parallel rank, if there are several; the fields above are sums."""


class RankStep(msgspec.Struct, frozen=True):
    """What one data-parallel rank did in a step, and its share of KV blocks in use."""

    prefill_tokens: int
    decode_requests: int
    kv_share: float


class StepEnded(msgspec.Struct, frozen=True):
    """One step of the engine, in which something was computed."""

    us: int
    """How long it took; 0: not known."""
    ranks: list[RankStep]
    """The ranks that computed something, the slowest first."""


class BlocksChanged(msgspec.Struct, frozen=True):
    """KV blocks stored and removed by a step, by chained hash; `cleared` comes first."""

    stored: list[int]
    removed: list[int]
    cleared: bool = False
    dp_rank: int = 0


class Staged(msgspec.Struct, frozen=True):
    """A full block that was just computed, and copied into a staging slot."""

    slot: int
    key: bytes
    parent: bytes
    """Empty for the first block of a chain."""
    span: bytes
    """The key of the first block of its span: see kv/owners.py."""
    hash: int
    tokens: int


@dataclass(frozen=True)
class Staging:
    """Memory shared with the engine, in slots of one KV block: KV is loaded and saved through it.

    The service fills slots below `load_slots` with KV to load; the engine fills the others with KV
    to save.
    """

    path: str
    slot_bytes: int
    load_slots: int
    slots: int
    layout: str = ""
    """How a block's bytes are laid out: KV of another layout is of no use."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is, known once it has started."""

    block_tokens: int
    kv_total_blocks: int
    max_model_tokens: int
    max_running_requests: int
    dp_ranks: int = 1
    """Each has as many KV blocks and running requests as named above."""
    tokens_per_step: int = 8192
    timing: Timing | None = None
    """How long steps take, if it is known."""
    staging: Staging | None = None
    """The staging memory, if there is a KV store."""


def ignore(_: object) -> None:
    """Does nothing: the default of a listener's calls."""


@dataclass(frozen=True)
class Listener:
    """What an engine calls when something has happened, on the event loop. Must not block."""

    stepped: Callable[[EngineStats], None]
    blocks_changed: Callable[[BlocksChanged], None]
    died: Callable[[str], None]
    """The engine failed for good, and why: the process should end, to be started anew."""
    staged: Callable[[list[Staged]], None] = ignore
    """Blocks were copied into staging slots, which are the listener's until `unstage`."""
    loaded: Callable[[str], None] = ignore
    """The preload of this name is not needed any more. Called for each that the engine began."""
    step_ended: Callable[[StepEnded], None] = ignore
    """A step computed something, and the engine knows what. Called before `stepped`."""


class EngineRefused(Exception):
    """The engine cannot take this request: the caller's fault. The message says why."""


class EngineFailed(Exception):
    """The engine could not finish this request: its own fault. The message says why."""


class KvLost(EngineFailed):
    """The KV of this request could not be pulled."""


class Engine(Protocol):
    """Runs one model. All methods are called from one event loop.

    tests/conformance/test_conformance_engine.py tests these promises.
    """

    async def start(self, listener: Listener) -> EngineInfo:
        """Load. Raises ArgosyError (NOT_READY) when it cannot, saying what to change."""
        ...

    def submit(self, request: EngineRequest) -> AsyncGenerator[EngineOutput, None]:
        """Queue a request and stream what it yields.

        Closing the iterator cancels the request and frees what it held. Raises
        EngineRefused, KvLost or EngineFailed.
        """
        ...

    async def release(self, request_id: str, kv_handle: bytes) -> None:
        """Free KV held for a puller that will not come. Harmless when it is freed already."""
        ...

    def unstage(self, slots: list[int]) -> None:
        """The engine may fill these staging slots again."""
        ...

    def stats(self) -> EngineStats:
        """As of the last step."""
        ...

    async def withdraw(self) -> None:
        """Deregister KV memory from NIXL, so that it can be freed. No request runs or holds KV."""
        ...

    async def sleep(self, level: SleepLevel) -> None:
        """Free KV memory, which `blocks_changed` reports, and weights as the level says.

        No request runs, no KV is held, and `withdraw` was called.
        """
        ...

    async def wake(self) -> None:
        """Load what `sleep` freed; KV memory is empty. `register` follows."""
        ...

    async def register(self) -> None:
        """Register KV memory with NIXL again."""
        ...

    async def stop(self) -> None:
        """Free everything. Running requests end with EngineFailed."""
        ...
