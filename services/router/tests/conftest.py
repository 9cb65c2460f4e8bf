"""What the tests of the router's core share: a core with a clock, fed by hand."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
import pytest

from argosy.domain.core import CancelTimer, Effect, SetTimer, TimerFired
from argosy.router.core import effects, events
from argosy.router.core.prefix_index import PrefixIndex
from argosy.router.core.state import KnownInstance, RankLedger, RouterLimits, new_state
from argosy.router.policies import new_core

S = 1_000_000
START_US = 1_700_000_000 * S
E = TypeVar("E", bound=Effect)
USUAL = {
    "queue_limit": 8,
    "attempts_max": 3,
    "stale_us": 3 * S,
    "ledger_us": 30 * S,
    "wait_us": 60 * S,
}


class Decided(list[Effect]):
    """What the core wants done, in one step or several."""

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self if isinstance(effect, kind)]

    def one(self, kind: type[E]) -> E:
        (found,) = self.all(kind)
        return found

    @property
    def dispatches(self) -> list[effects.Dispatch]:
        return self.all(effects.Dispatch)

    @property
    def dispatch(self) -> effects.Dispatch:
        return self.one(effects.Dispatch)

    @property
    def sent(self) -> list[str]:
        """Requests on their way, in order."""
        return [dispatch.request_id for dispatch in self.dispatches]

    @property
    def decoded_at(self) -> list[str]:
        return [dispatch.decode for dispatch in self.dispatches]

    @property
    def prefilled_at(self) -> list[str]:
        return [dispatch.prefill for dispatch in self.dispatches]


class RouterUnderTest:
    """A router's core with a clock; its timers fire as `pass_time` goes by them."""

    usual = USUAL
    start_us = START_US

    def __init__(self, **limits: Any) -> None:
        self.state = new_state(RouterLimits(**(USUAL | limits)))
        self.core = new_core(self.state)
        self.now_us = START_US
        self.timers: dict[str, int] = {}

    def feed(self, kind: Any, **fields: Any) -> Decided:
        decided = Decided(self.core.step(kind(now_us=self.now_us, **fields)))
        for effect in decided:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.at_us
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
        return decided

    def pass_time(self, us: int) -> Decided:
        until_us, found = self.now_us + us, Decided()
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = max(due[0][0], self.now_us), due[0][1]
            del self.timers[key]
            found += self.feed(TimerFired, key=key)
        self.now_us = until_us
        return found

    def join(
        self,
        name: str,
        role: str = "decode",
        *,
        epoch: str = "e1",
        address: str = "",
        node: str = "n1",
        model: str = "m",
        kv_blocks: int = 100,
        block_tokens: int = 32,
        context: int = 4096,
        max_running: int = 2,
        ago_us: int | None = None,
        **fields: Any,
    ) -> Decided:
        """ago_us: how old the announcement is; None: it says nothing of that."""
        announced_us = 0 if ago_us is None else self.now_us - ago_us
        return self.feed(
            events.InstanceJoined,
            instance=name,
            epoch=epoch,
            role=role,
            address=address or f"{name}:{epoch}",
            node=node,
            model=model,
            kv_total_blocks=kv_blocks,
            block_tokens=block_tokens,
            max_model_tokens=context,
            max_running_requests=max_running,
            announced_us=announced_us,
            **fields,
        )

    def leave(self, name: str, epoch: str = "e1", reason: str = "stopped") -> Decided:
        return self.feed(events.InstanceLeft, instance=name, epoch=epoch, reason=reason)

    def load(
        self,
        name: str,
        running: int = 0,
        *,
        waiting: int = 0,
        tokens: int = 0,
        kv: int = 0,
        lag_us: int = 0,
        epoch: str = "e1",
        step_us: int = 0,
    ) -> Decided:
        """The same on every rank."""
        ranks = len(self.state.instances[name].ranks) if name in self.state.instances else 1
        loads = [events.RankLoad(running, waiting, tokens, kv)] * ranks
        return self.load_ranks(name, loads, lag_us=lag_us, epoch=epoch, step_us=step_us)

    def load_ranks(
        self,
        name: str,
        loads: list[events.RankLoad],
        *,
        lag_us: int = 0,
        epoch: str = "e1",
        step_us: int = 0,
    ) -> Decided:
        at_us = self.now_us - lag_us
        return self.feed(
            events.LoadReported,
            instance=name,
            epoch=epoch,
            ranks=loads,
            at_us=at_us,
            step_us=step_us,
        )

    def arrive(
        self,
        request_id: str,
        tokens: int = 100,
        *,
        model: str = "m",
        max_tokens: int = 16,
        within_us: int = 600 * S,
        **fields: Any,
    ) -> Decided:
        deadline_us = self.now_us + within_us
        return self.feed(
            events.RequestArrived,
            request_id=request_id,
            model=model,
            prompt_tokens=tokens,
            max_tokens=max_tokens,
            deadline_us=deadline_us,
            **fields,
        )

    def end(self, request_id: str, **fields: Any) -> Decided:
        return self.feed(events.RequestEnded, request_id=request_id, **fields)

    def fail(
        self,
        request_id: str,
        at: str,
        reason: str = "INSTANCE_LOST",
        attempt: int = 0,
        tokens: int = 100,
    ) -> Decided:
        return self.feed(
            events.AttemptFailed,
            request_id=request_id,
            attempt=attempt,
            reason=reason,
            message="it broke",
            instance=at,
            prompt_tokens=tokens,
        )

    def store(
        self,
        name: str,
        blocks: Iterable[int],
        sequence: int = 1,
        *,
        removed: Iterable[int] = (),
        epoch: str = "e1",
        **fields: Any,
    ) -> Decided:
        return self.feed(
            events.KvChanged,
            instance=name,
            epoch=epoch,
            sequence=sequence,
            stored=list(blocks),
            removed=list(removed),
            **fields,
        )

    def instance(self, name: str) -> KnownInstance:
        return self.state.instances[name]

    def rank(self, name: str, number: int = 0) -> RankLedger:
        return self.state.instances[name].ranks[number]

    @property
    def queued(self) -> list[str]:
        """Requests that wait here, in order of arrival."""
        return [name for name, request in self.state.requests.items() if request.queued]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.state, enc_hook=PrefixIndex.to_snapshot)


@pytest.fixture(scope="session")
def new_router() -> type[RouterUnderTest]:
    """Call it with limits to get a router that knows nothing yet."""
    return RouterUnderTest
