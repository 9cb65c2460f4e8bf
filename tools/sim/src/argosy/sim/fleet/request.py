"""One request's way through the virtual fleet, across as many instances as it takes."""

from typing import TYPE_CHECKING

from argosy.engine.sim.sequence import Sequence
from argosy.router.core import effects, events
from argosy.sim.reports.outcome import RequestOutcome
from argosy.sim.traces.trace import TraceRequest

if TYPE_CHECKING:
    from argosy.sim.fleet.instance import SimInstance
    from argosy.sim.fleet.simulation import Simulation

NETWORK_US = 200
LOST_US = 10_000
"""How long until the loss of an instance is noticed by who waits for it."""
DEADLINE_US = 600_000_000


class SimRequest:
    """See the module. Tokens are counted as the caller sees them: each once."""

    def __init__(self, simulation: "Simulation", number: int, request: TraceRequest) -> None:
        self.simulation = simulation
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
        """When its KV was first there for decode to pull."""
        self.dispatched_us: int | None = None
        """When the router first placed it."""
        self._router = simulation.routers[number % len(simulation.routers)]
        self._dispatch: effects.Dispatch | None = None
        self._lives: tuple[int, int] = (0, 0)

    def arrive(self) -> None:
        """The caller asks."""
        request, now_us = self.request, self.simulation.now_us
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
        """The router will not take it."""
        self.outcome.rejected = True
        self.simulation.ended += 1

    def dispatched(self, dispatch: effects.Dispatch) -> None:
        """The router has placed it."""
        self._dispatch = dispatch
        self.attempts += 1
        if self.dispatched_us is None:
            self.dispatched_us = self.simulation.now_us
        prefill, decode = self._instance(dispatch.prefill), self._instance(dispatch.decode)
        self._lives = (prefill.epoch, decode.epoch)
        self.outcome.instance = dispatch.decode
        self.simulation.after(NETWORK_US, self._submit, dispatch)

    def _instance(self, name: str) -> "SimInstance":
        return self.simulation.instances[name]

    def _submit(self, dispatch: effects.Dispatch) -> None:
        if self._lost(dispatch) or self._refused(dispatch):
            return
        instance = self._instance(dispatch.prefill)
        apart = dispatch.prefill != dispatch.decode
        sequence = self._sequence(dispatch, hold=apart)
        rank = dispatch.prefill_rank if apart else dispatch.decode_rank

        def told(tokens: int, first: bool, last: bool) -> None:
            if apart:
                self._prefilled(dispatch, sequence)
            else:
                self._tokens(dispatch, sequence, tokens, first, last)

        def compute() -> None:
            if not self._lost(dispatch):
                instance.submit(sequence, rank, told)

        if self.simulation.store is None:
            instance.submit(sequence, rank, told)
        else:
            self.simulation.store.load(instance, rank, sequence, compute)

    def _sequence(
        self, dispatch: effects.Dispatch, *, hold: bool = False, pull: bool = False
    ) -> Sequence:
        done = self.outcome.output_tokens
        return Sequence(
            f"{self.key}/{dispatch.attempt}",
            self.request.prompt_tokens + done,
            1 if hold else self.request.output_tokens - done,
            self.request.blocks,
            hold,
            pull,
            far=1,
        )

    def _prefilled(self, dispatch: effects.Dispatch, sequence: Sequence) -> None:
        """Its KV is ready: decode pulls it."""
        if self.outcome.first_us is None:
            self.outcome.cached_tokens = sequence.cached
            self.prefilled_us = self.prefilled_us or self.simulation.now_us
        self.simulation.after(NETWORK_US, self._pull, dispatch)

    def _pull(self, dispatch: effects.Dispatch) -> None:
        if self._lost(dispatch):
            return
        decode = self._instance(dispatch.decode)
        sequence = self._sequence(dispatch, pull=True)
        decode.on_pulled[sequence.key] = lambda: self.simulation.after(
            NETWORK_US, self._release, dispatch, self._lives[0]
        )
        decode.submit(
            sequence,
            dispatch.decode_rank,
            lambda tokens, first, last: self._tokens(dispatch, None, tokens, first, last),
        )

    def _release(self, dispatch: effects.Dispatch, life: int) -> None:
        prefill = self._instance(dispatch.prefill)
        if prefill.alive and prefill.epoch == life:
            prefill.forget(f"{self.key}/{dispatch.attempt}")
            prefill.finish(f"{self.key}/{dispatch.attempt}")

    def _tokens(
        self,
        dispatch: effects.Dispatch,
        sequence: Sequence | None,
        tokens: int,
        first: bool,
        last: bool,
    ) -> None:
        outcome, now_us = self.outcome, self.simulation.now_us + NETWORK_US
        if outcome.first_us is None:
            outcome.first_us = now_us
            if sequence is not None:
                outcome.cached_tokens = sequence.cached
        outcome.output_tokens += tokens
        if first and not last:
            self.simulation.after(NETWORK_US, self._feed_first)
        if last:
            outcome.ended_us = now_us
            self.simulation.ended += 1
            self._dispatch = None
            self._instance(dispatch.decode).finish(f"{self.key}/{dispatch.attempt}")
            self.simulation.after(NETWORK_US, self._feed_end)

    def _feed_first(self) -> None:
        self._router.feed(events.FirstTokenSeen(now_us=self.simulation.now_us, request_id=self.key))

    def _feed_end(self) -> None:
        outcome = self.outcome
        self._router.feed(
            events.RequestEnded(
                now_us=self.simulation.now_us,
                request_id=self.key,
                output_tokens=outcome.output_tokens,
                cached_tokens=outcome.cached_tokens,
            )
        )

    # -- failures

    def _refused(self, dispatch: effects.Dispatch) -> bool:
        """Whether an instance takes nothing new; then try again. Else both have to do with it."""
        instances = [self._instance(name) for name in {dispatch.prefill: 0, dispatch.decode: 0}]
        for instance in instances:
            if instance.holding:
                self._fail(dispatch, instance.name, "DRAINING")
                return True
        for instance in instances:
            instance.begin(f"{self.key}/{dispatch.attempt}")
        return False

    def cut(self, name: str) -> None:
        """An instance lets go of it."""
        dispatch = self._dispatch
        if dispatch is not None and name in (dispatch.prefill, dispatch.decode):
            self._fail(dispatch, name, "DRAINING")

    def _lost(self, dispatch: effects.Dispatch) -> bool:
        """Whether an instance it was sent to is not there any more; then try again."""
        if dispatch is not self._dispatch:
            return True
        for name, life in zip((dispatch.prefill, dispatch.decode), self._lives, strict=True):
            instance = self._instance(name)
            if not instance.alive or instance.epoch != life:
                self._fail(dispatch, name)
                return True
        return False

    def instance_lost(self, name: str) -> None:
        """An instance died: whoever waits for it notices a moment later."""
        dispatch = self._dispatch
        if dispatch is not None and name in (dispatch.prefill, dispatch.decode):
            self.simulation.after(LOST_US, self._notice, dispatch)

    def _notice(self, dispatch: effects.Dispatch) -> None:
        self._lost(dispatch)

    def _fail(self, dispatch: effects.Dispatch, name: str, reason: str = "INSTANCE_LOST") -> None:
        self._dispatch = None
        # What was sent elsewhere for it is cancelled, as a hung-up stream does.
        for other, life in zip((dispatch.prefill, dispatch.decode), self._lives, strict=True):
            instance = self._instance(other)
            if instance.alive and instance.epoch == life:
                instance.forget(f"{self.key}/{dispatch.attempt}")
                instance.on_pulled.pop(f"{self.key}/{dispatch.attempt}", None)
                instance.finish(f"{self.key}/{dispatch.attempt}")
        tokens = self.request.prompt_tokens + self.outcome.output_tokens
        self._router.feed(
            events.AttemptFailed(
                now_us=self.simulation.now_us,
                request_id=self.key,
                attempt=dispatch.attempt,
                reason=reason,
                message="it is not there",
                instance=name,
                prompt_tokens=tokens,
            )
        )
