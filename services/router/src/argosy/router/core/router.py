"""The router's decisions, one event at a time.

A request is queued until it can be placed, placed until it ends, and placed again
when the instance it was at fails, up to `attempts_max` times. An instance at fault is
not used again until it announces itself anew or is heard of again. A request whose
deadline passes while it waits is refused; so is one that finds the queue full.
"""

from bisect import insort

from argosy.mesh.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.router.core import effects as do
from argosy.router.core import events as on
from argosy.router.core import ledger, placement
from argosy.router.core.state import Request, RouterState

SWEEP = "sweep"
WAIT = "wait:"
SWEEP_US = 500_000
FAULTS = frozenset({"INSTANCE_LOST", "DRAINING", "NOT_READY"})
"""Failures after which the instance is not to be used; others fault the attempt only."""


class RouterCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: RouterState) -> None:
        self.state = state

    def step(self, event: on.RouterEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case on.RequestArrived():
                return self._arrived(event)
            case on.RequestEnded():
                return self._ended(event.request_id) + self._place_waiting(event.now_us)
            case on.AttemptFailed():
                return self._failed(event)
            case on.LoadReported():
                live = ledger.reported(self.state, event)
                return self._place_waiting(event.now_us) if live else []
            case on.InstanceJoined():
                stale = ledger.joined(self.state, event)
                forget = [do.ForgetAddress(stale)] if stale else []
                return [*forget, *self._place_waiting(event.now_us)]
            case on.InstanceLeft():
                ledger.left(
                    self.state, event.instance, event.reason, event.now_us,
                    epoch=event.epoch, final=True,
                )  # fmt: skip
                return []
            case on.IdlePredicted():
                return self._idle_predicted(event)
            case on.BusChanged():
                return self._bus_changed(event)
            case TimerFired(key=key) if key == SWEEP:
                return self._sweep(event.now_us)
            case TimerFired():
                return self._waited_out(event.key.removeprefix(WAIT))

    # -- requests

    def _arrived(self, event: on.RequestArrived) -> list[Effect]:
        state = self.state
        if refusal := self._refusal(event):
            return [refusal]
        if event.failed_instance:
            instance = state.instances.get(event.failed_instance)
            if instance is not None and instance.address == event.failed_address:
                ledger.left(
                    state, event.failed_instance, "a client could not reach it", event.now_us
                )
        state.requests[event.request_id] = Request(
            event.model, event.prompt_tokens, event.max_tokens, event.deadline_us,
            event.now_us, event.attempt, event.direct,
        )  # fmt: skip
        return self._queue(event.request_id, event.now_us)

    def _refusal(self, event: on.RequestArrived) -> do.Reject | None:
        state, request_id = self.state, event.request_id
        context = state.models.get(event.model)
        if not state.models:
            return do.Reject(request_id, "NOT_READY", "no instance has joined yet", 1000)
        if context is None:
            known = ", ".join(sorted(state.models))
            message = f"no model '{event.model}' here; there are: {known}"
            return do.Reject(request_id, "MODEL_NOT_FOUND", message, 0)
        if event.prompt_tokens + 1 > context:
            message = (
                f"the prompt has {event.prompt_tokens} tokens, and {event.model} takes "
                f"{context} with the answer; shorten the prompt"
            )
            return do.Reject(request_id, "PROMPT_TOO_LONG", message, 0)
        if request_id in state.requests:
            message = f"request id {request_id} is in use; choose another, or leave it out"
            return do.Reject(request_id, "BAD_REQUEST", message, 0)
        if event.attempt >= state.attempts_max:
            message = f"{event.attempt} instances in a row failed this request"
            return do.Reject(request_id, "NO_INSTANCE", message, 1000)
        if len(state.queue) >= state.queue_limit:
            message = f"{len(state.queue)} requests are waiting, the most allowed"
            return do.Reject(request_id, "OVERLOADED", message, 1000)
        return None

    def _ended(self, request_id: str) -> list[Effect]:
        request = self.state.requests.pop(request_id, None)
        if request is None:
            return []
        if request.queued:
            self.state.queue.remove(request_id)
        self._undispatch(request_id, request)
        return [CancelTimer(WAIT + request_id)]

    def _failed(self, event: on.AttemptFailed) -> list[Effect]:
        request = self.state.requests.get(event.request_id)
        if request is None or request.queued or request.attempt != event.attempt:
            return []
        if event.reason in FAULTS and event.instance in (request.prefill, request.decode):
            reason = f"{event.reason}: {event.message}"
            ledger.left(self.state, event.instance, reason, event.now_us)
        self._undispatch(event.request_id, request)
        request.attempt += 1
        request.last_failure = f"{event.instance}: {event.message}"
        if request.attempt >= self.state.attempts_max:
            message = f"{request.attempt} attempts failed, the last at {request.last_failure}"
            reject = do.Reject(event.request_id, "NO_INSTANCE", message, 1000)
            ended = self._ended(event.request_id)
            return [*ended, reject, *self._place_waiting(event.now_us)]
        request.prompt_tokens = event.prompt_tokens
        return self._queue(event.request_id, event.now_us)

    def _queue(self, request_id: str, now_us: int) -> list[Effect]:
        """In order of arrival: one that failed goes ahead of those that came later."""
        state, request = self.state, self.state.requests[request_id]
        request.queued = True
        insort(state.queue, request_id, key=lambda waiting: state.requests[waiting].arrived_us)
        timer = SetTimer(WAIT + request_id, min(request.deadline_us, now_us + state.wait_us))
        return [timer, *self._place_waiting(now_us)]

    def _waited_out(self, request_id: str) -> list[Effect]:
        request = self.state.requests.get(request_id)
        if request is None or not request.queued:
            return []
        if placement.serving(self.state, request.model, "decode"):
            reason, message = "OVERLOADED", "every decode instance was full until the deadline"
        else:
            reason, message = "NO_INSTANCE", f"no decode instance of {request.model} is live"
        if request.last_failure:
            message += f" (before: {request.last_failure})"
        return [*self._ended(request_id), do.Reject(request_id, reason, message, 1000)]

    # -- placement

    def _place_waiting(self, now_us: int) -> list[Effect]:
        """Place what can be placed, in order; once a model is full, no more of it is looked at."""
        state = self.state
        found: list[Effect] = []
        waiting: list[str] = []
        full: dict[str, bool] = {}
        for request_id in state.queue:
            request = state.requests[request_id]
            if request.model not in full:
                decode = placement.choose_decode(state, request)
                if decode is not None:
                    found += self._dispatch(request_id, request, decode, now_us)
                    continue
                full[request.model] = True
            waiting.append(request_id)
        state.queue = waiting
        return found

    def _dispatch(
        self, request_id: str, request: Request, decode: str, now_us: int
    ) -> list[Effect]:
        state = self.state
        prefill, why = placement.choose_prefill(state, request, decode)
        request.prefill, request.decode, request.queued = prefill, decode, False
        tokens = request.prompt_tokens
        state.instances[prefill].dispatched[request_id] = (now_us, tokens)
        if prefill != decode:
            state.instances[decode].dispatched[request_id] = (now_us, 0)
        attempt = request.attempt
        if request.direct:
            del state.requests[request_id]
        dispatch = do.Dispatch(
            request_id, attempt, prefill, state.instances[prefill].address,
            decode, state.instances[decode].address, why,
        )  # fmt: skip
        return [CancelTimer(WAIT + request_id), dispatch]

    def _undispatch(self, request_id: str, request: Request) -> None:
        for name in (request.prefill, request.decode):
            if instance := self.state.instances.get(name):
                instance.dispatched.pop(request_id, None)

    # -- instances

    def _idle_predicted(self, event: on.IdlePredicted) -> list[Effect]:
        instance = self.state.instances.get(event.instance)
        if instance is not None and instance.epoch == event.epoch:
            instance.idle_at_us = event.idle_at_us
        return []

    def _bus_changed(self, event: on.BusChanged) -> list[Effect]:
        self.state.bus_connected = event.connected
        for instance in self.state.instances.values():
            instance.seen_us = max(instance.seen_us, event.now_us)
        return [SetTimer(SWEEP, event.now_us + SWEEP_US)]

    def _sweep(self, now_us: int) -> list[Effect]:
        ledger.expire(self.state, now_us)
        for name in ledger.silent(self.state, now_us):
            ledger.left(self.state, name, "not heard of", now_us)
        ledger.forget(self.state, now_us)
        return [SetTimer(SWEEP, now_us + SWEEP_US), *self._place_waiting(now_us)]


SPEC = CoreSpec("router", on.RouterEvent, RouterState, RouterCore)
