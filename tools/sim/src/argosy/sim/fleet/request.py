"""One request's way through the simulated fleet, across as many attempts as it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from argosy.engine.sim.sequence import Sequence
from argosy.router.core import effects, events
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.instance import SimInstance
from argosy.sim.fleet.kv_store import SimStore
from argosy.sim.fleet.ports import FactReceiver
from argosy.sim.fleet.spec import DEADLINE_US, NETWORK_US
from argosy.sim.reports.outcome import RequestOutcome
from argosy.sim.traces.trace import TraceRequest

LOST_US = 10_000
"""From an instance's death until a stream to it breaks: a connection reset, and some scheduling."""


@dataclass
class RequestPorts:
    """What requests need of the simulation. All of a trace share one."""

    queue: EventQueue
    instances: Mapping[str, SimInstance]
    store: SimStore | None
    on_ended: Callable[[], None]


class SimRequest:
    """A request and its caller. Output tokens are counted as the caller sees them, each once."""

    def __init__(
        self, number: int, request: TraceRequest, router: FactReceiver, ports: RequestPorts
    ) -> None:
        self.request = request
        self.key = str(number)
        self.outcome = RequestOutcome(
            arrived_us=request.arrived_us,
            prompt_tokens=request.prompt_tokens,
            output_tokens=0,
            cached_tokens=0,
            first_us=None,
            ended_us=None,
        )
        self.attempts = 0
        self.prefilled_us: int | None = None
        """When its KV was first ready for a decode instance to pull."""
        self.dispatched_us: int | None = None
        """When the router first placed it."""
        self._router = router
        self._ports = ports
        self._queue = ports.queue
        self._dispatch: effects.Dispatch | None = None
        self._epochs: tuple[int, int] = (0, 0)
        """Of the prefill and the decode instance, when the router placed it there."""

    def arrive(self) -> None:
        """The caller sends the request to its router."""
        request, now_us = self.request, self._queue.now_us
        self.outcome.arrived_us = now_us
        self._router.feed(
            events.RequestArrived(
                now_us=now_us,
                request_id=self.key,
                model="model",
                prompt_tokens=request.prompt_tokens,
                max_tokens=request.output_tokens,
                deadline_us=now_us + DEADLINE_US,
                blocks=request.blocks,
                tenant=request.tenant,
                priority=request.priority,
            )
        )

    def rejected(self) -> None:
        """The router refuses the request."""
        self.outcome.rejected = True
        self._ports.on_ended()

    def dispatched(self, dispatch: effects.Dispatch) -> None:
        """The router has placed the request."""
        self._dispatch = dispatch
        self.attempts += 1
        if self.dispatched_us is None:
            self.dispatched_us = self._queue.now_us
        prefill, decode = self._instance(dispatch.prefill), self._instance(dispatch.decode)
        self._epochs = (prefill.epoch, decode.epoch)
        self.outcome.instance = dispatch.decode
        self._queue.after(NETWORK_US, self._submit, dispatch)

    def _instance(self, name: str) -> SimInstance:
        return self._ports.instances[name]

    def _submit(self, dispatch: effects.Dispatch) -> None:
        if self._is_lost(dispatch) or self._is_refused(dispatch):
            return
        instance = self._instance(dispatch.prefill)
        apart = dispatch.prefill != dispatch.decode
        sequence = self._sequence(dispatch, hold=apart)
        rank = dispatch.prefill_rank if apart else dispatch.decode_rank

        def on_tokens(tokens: int, first: bool, last: bool) -> None:
            if apart:
                self._prefilled(dispatch, sequence)
            else:
                self._receive(dispatch, sequence, tokens, first, last)

        def compute() -> None:
            if not self._is_lost(dispatch):
                instance.submit(sequence, rank, on_tokens)

        if self._ports.store is None:
            instance.submit(sequence, rank, on_tokens)
        else:
            self._ports.store.load(instance, rank, sequence, compute)

    def _sequence(
        self, dispatch: effects.Dispatch, *, hold: bool = False, pull: bool = False
    ) -> Sequence:
        done = self.outcome.output_tokens
        return Sequence(
            attempt_key(self.key, dispatch),
            self.request.prompt_tokens + done,
            1 if hold else self.request.output_tokens - done,
            self.request.blocks,
            hold,
            pull,
            far=1,
        )

    def _prefilled(self, dispatch: effects.Dispatch, sequence: Sequence) -> None:
        """Its KV is ready for the decode instance to pull."""
        if self.outcome.first_us is None:
            self.outcome.cached_tokens = sequence.cached
            self.prefilled_us = self.prefilled_us or self._queue.now_us
        self._queue.after(NETWORK_US, self._pull, dispatch)

    def _pull(self, dispatch: effects.Dispatch) -> None:
        if self._is_lost(dispatch):
            return
        decode = self._instance(dispatch.decode)
        sequence = self._sequence(dispatch, pull=True)
        decode.on_pulled[sequence.key] = lambda: self._queue.after(
            NETWORK_US, self._release, dispatch, self._epochs[0]
        )
        decode.submit(
            sequence,
            dispatch.decode_rank,
            lambda tokens, first, last: self._receive(dispatch, None, tokens, first, last),
        )

    def _release(self, dispatch: effects.Dispatch, epoch: int) -> None:
        prefill = self._instance(dispatch.prefill)
        if prefill.alive and prefill.epoch == epoch:
            prefill.forget(attempt_key(self.key, dispatch))
            prefill.finish(attempt_key(self.key, dispatch))

    def _receive(
        self,
        dispatch: effects.Dispatch,
        prefilled: Sequence | None,
        tokens: int,
        first: bool,
        last: bool,
    ) -> None:
        """Output tokens are on their way to the caller.

        `prefilled` is the sequence where the same instance computed the prompt.
        """
        outcome, now_us = self.outcome, self._queue.now_us + NETWORK_US
        if outcome.first_us is None:
            outcome.first_us = now_us
            if prefilled is not None:
                outcome.cached_tokens = prefilled.cached
        outcome.output_tokens += tokens
        if first and not last:
            self._queue.after(NETWORK_US, self._feed_first_token)
        if last:
            outcome.ended_us = now_us
            self._ports.on_ended()
            self._dispatch = None
            self._instance(dispatch.decode).finish(attempt_key(self.key, dispatch))
            self._queue.after(NETWORK_US, self._feed_end)

    def _feed_first_token(self) -> None:
        self._router.feed(events.FirstTokenSeen(now_us=self._queue.now_us, request_id=self.key))

    def _feed_end(self) -> None:
        outcome = self.outcome
        self._router.feed(
            events.RequestEnded(
                now_us=self._queue.now_us,
                request_id=self.key,
                output_tokens=outcome.output_tokens,
                cached_tokens=outcome.cached_tokens,
            )
        )

    # -- failures

    def _is_refused(self, dispatch: effects.Dispatch) -> bool:
        """Fail the attempt if an instance admits nothing; else let it occupy both instances."""
        instances = [self._instance(name) for name in {dispatch.prefill: 0, dispatch.decode: 0}]
        for instance in instances:
            if not instance.admitting:
                self._fail(dispatch, instance.name, "DRAINING")
                return True
        for instance in instances:
            instance.begin(attempt_key(self.key, dispatch))
        return False

    def abort(self, name: str) -> None:
        """An instance aborts what it has not finished. The attempt fails if it is among that."""
        dispatch = self._dispatch
        if dispatch is not None and name in (dispatch.prefill, dispatch.decode):
            self._fail(dispatch, name, "DRAINING")

    def _is_lost(self, dispatch: effects.Dispatch) -> bool:
        """Whether the attempt is over. It fails here if one of its instances is gone."""
        if dispatch is not self._dispatch:
            return True
        for name, epoch in zip((dispatch.prefill, dispatch.decode), self._epochs, strict=True):
            instance = self._instance(name)
            if not instance.alive or instance.epoch != epoch:
                self._fail(dispatch, name)
                return True
        return False

    def instance_lost(self, name: str) -> None:
        """An instance died. If the request has to do with it, it notices a moment later."""
        dispatch = self._dispatch
        if dispatch is not None and name in (dispatch.prefill, dispatch.decode):
            self._queue.after(LOST_US, self._notice_loss, dispatch)

    def _notice_loss(self, dispatch: effects.Dispatch) -> None:
        self._is_lost(dispatch)

    def _fail(self, dispatch: effects.Dispatch, name: str, reason: str = "INSTANCE_LOST") -> None:
        self._dispatch = None
        key = attempt_key(self.key, dispatch)
        # The other instance's part is cancelled, as a stream that hangs up does.
        for other, epoch in zip((dispatch.prefill, dispatch.decode), self._epochs, strict=True):
            instance = self._instance(other)
            if instance.alive and instance.epoch == epoch:
                instance.forget(key)
                instance.on_pulled.pop(key, None)
                instance.finish(key)
        tokens = self.request.prompt_tokens + self.outcome.output_tokens
        self._router.feed(
            events.AttemptFailed(
                now_us=self._queue.now_us,
                request_id=self.key,
                attempt=dispatch.attempt,
                reason=reason,
                message="it is not there",
                instance=name,
                prompt_tokens=tokens,
            )
        )


def attempt_key(request_id: str, dispatch: effects.Dispatch) -> str:
    """The name of an attempt's sequences."""
    return f"{request_id}/{dispatch.attempt}"
