"""What an engine is, whichever it is: tokens in, tokens out, and what it holds."""

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


class Preload(msgspec.Struct, frozen=True):
    """KV of a prompt's blocks from `first_block` on, which waits in these staging slots.

    It is whole and checked: taking it in cannot fail.
    """

    name: str
    """Of this one load."""
    first_block: int
    slots: list[int]


class EngineRequest(msgspec.Struct, frozen=True):
    """One prompt for an engine.

    produce: compute the prompt's KV, hold it for a puller, and give its handle.
    kv_handle: pull the prompt's KV with this handle instead of computing it.
    preload: take this KV in instead of computing it, as far as it is not here already.
    stored_blocks: leading blocks that stores have, so that the others are staged even if they
        need no computing; None: it is not known, and what is computed is staged.
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


class EngineStats(msgspec.Struct, frozen=True):
    """What an engine has to do, after a step."""

    running_requests: int = 0
    waiting_requests: int = 0
    queued_prefill_tokens: int = 0
    kv_used_blocks: int = 0
    step_us: int = 0
    """How long the last step took."""
    ranks: "tuple[EngineStats, ...]" = ()
    """By data-parallel rank where there are several; the fields above are sums."""


class RankStep(msgspec.Struct, frozen=True):
    """What one data-parallel rank did in a step, and its share of KV blocks in use."""

    prefill_tokens: int
    decode_requests: int
    kv_share: float


class StepEnded(msgspec.Struct, frozen=True):
    """One step of the engine, in which something was computed."""

    us: int
    """0: it is not known."""
    ranks: list[RankStep]
    """Those that had something to do, the slowest first."""


class BlocksChanged(msgspec.Struct, frozen=True):
    """KV blocks stored and removed by a step, by chained hash; `cleared` comes first."""

    stored: list[int]
    removed: list[int]
    cleared: bool = False
    dp_rank: int = 0


class Staged(msgspec.Struct, frozen=True):
    """A full block, just computed, of which the engine has put a copy into a staging slot."""

    slot: int
    key: bytes
    parent: bytes
    """Empty for the first of a chain."""
    span: bytes
    """Key of the first block of its span: see store.peers."""
    hash: int
    tokens: int


@dataclass(frozen=True)
class Staging:
    """Memory shared with the engine, in slots of one KV block: the way in and out for KV.

    Slots below `load_slots` are for what goes in, and are ours to fill; the others are
    for what comes out, and are the engine's to fill.
    """

    path: str
    slot_bytes: int
    load_slots: int
    slots: int
    layout: str = ""
    """How a block's bytes are laid out: part of what makes KV what it is."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine turned out to be, once started."""

    block_tokens: int
    kv_total_blocks: int
    max_model_tokens: int
    max_running_requests: int
    dp_ranks: int = 1
    """Each with the KV blocks and running requests named above."""
    tokens_per_step: int = 8192
    timing: Timing | None = None
    """How long steps take, where it is known."""
    staging: Staging | None = None
    """Where there is a KV store."""


def ignore(_: object) -> None:
    """For listeners to whom it does not matter."""


@dataclass(frozen=True)
class Listener:
    """Who is told what an engine did. Called on the event loop; must not block."""

    stepped: Callable[[EngineStats], None]
    blocks_changed: Callable[[BlocksChanged], None]
    died: Callable[[str], None]
    """The engine is beyond use: the process should end, to be started anew."""
    staged: Callable[[list[Staged]], None] = ignore
    """Blocks have been copied out; their slots are the listener's until `unstage`."""
    loaded: Callable[[str], None] = ignore
    """The preload of this name is not needed any more; told of each that the engine has begun."""
    step_ended: Callable[[StepEnded], None] = ignore
    """Called before `stepped` when something was computed and the engine knows what."""


class EngineRefused(Exception):
    """The engine cannot take this request as it is: the caller's fault, and why."""


class EngineFailed(Exception):
    """The engine could not finish this request: its own fault, and why."""


class KvLost(EngineFailed):
    """The KV that was to be pulled could not be."""


class Engine(Protocol):
    """A model that runs. All methods are called from one event loop."""

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
        """Let go of KV held for a puller that will not come. Harmless when it is gone."""
        ...

    def unstage(self, slots: list[int]) -> None:
        """The engine may fill these staging slots again."""
        ...

    def stats(self) -> EngineStats:
        """As of the last step."""
        ...

    async def withdraw(self) -> None:
        """Take KV memory out of NIXL's hands, so that it can go. Nothing runs or is held."""
        ...

    async def sleep(self, level: SleepLevel) -> None:
        """Free KV memory, of which the listener is told, and weights as the level says.

        Nothing runs or is held, and `withdraw` was called.
        """
        ...

    async def wake(self) -> None:
        """Bring back what `sleep` freed; KV memory is empty. `register` is to follow."""
        ...

    async def register(self) -> None:
        """Give KV memory into NIXL's hands again."""
        ...

    async def stop(self) -> None:
        """Free everything. Running requests end with EngineFailed."""
        ...
