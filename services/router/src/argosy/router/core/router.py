"""The router's decisions, one event at a time.

A request is queued until it can be placed, placed until it ends, and placed again
when the instance it was at fails, up to `attempts_max` times. An instance at fault is
not used again until it announces itself anew or is heard of again. A request whose
deadline passes while it waits is refused; so is one that finds the queue full, or that
is predicted to get its first token too late (`admission`). `schedule` says when and
where waiting requests go, `members` which instances there are.
"""

from argosy.mesh.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired
from argosy.router.core import admission, ledger, members, siblings
from argosy.router.core import effects as do
from argosy.router.core import events as on
from argosy.router.core.schedule import Round, look_up
from argosy.router.core.seats import Choice, Seats, first_token_us, prompt_blocks, seats_of
from argosy.router.core.state import Request, RouterState

SWEEP = "sweep"
WINDOW = "window"
WAIT = "wait:"
SWEEP_US = 500_000
GUESS_US = 5_000_000
"""How long a dispatched prompt's blocks are believed to be on their way into a cache."""
STRETCH = 3
"""A waiting prompt yields to a shorter one that came later by up to this many times the
difference of their prefill times: short ones wait less, and long ones never for ever."""
FREED_SMOOTHING = 0.05
FAULTS = frozenset({"INSTANCE_LOST", "DRAINING", "NOT_READY"})
"""Failures after which the instance is not to be used; others fault the attempt only."""


class RouterCore:
    """See the module. All methods are pure on `state`; `_seats` follows from it."""

    def __init__(self, state: RouterState) -> None:
        self.state = state
        self._seats: dict[str, Seats] = {}

    def step(self, event: on.RouterEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case on.LoadReported():
                return self._load_reported(event)
            case on.KvChanged():
                return members.kv_changed(self.state, event)
            case on.RequestArrived():
                return self._arrived(event)
            case on.RequestEnded():
                return self._request_ended(event)
            case on.FirstTokenSeen():
                self._first_token(event.request_id)
                return []
            case on.AttemptFailed():
                return self._failed(event)
            case on.IdlePredicted():
                return self._idle_predicted(event)
            case on.SiblingSeen():
                siblings.seen(self.state, event)
                return []
            case on.SiblingDispatched():
                siblings.dispatched(self.state, event)
                return []
            case on.SiblingEnded():
                siblings.ended(self.state, event)
                return []
            case TimerFired():
                return self._timer(event)
            case _:
                return self._members_changed(event)

    def _members_changed(self, event: on.RouterEvent) -> list[Effect]:
        state = self.state
        self._seats = {}
        match event:
            case on.InstanceJoined():
                return [*members.joined(state, event), *self._place_waiting(event.now_us)]
            case on.InstanceLeft():
                members.left(
                    state, event.instance, event.reason, event.now_us, epoch=event.epoch, final=True
                )
                return []
            case on.KvSnapshotTaken():
                return members.snapshot_taken(state, event)
            case on.KvSnapshotFailed():
                members.snapshot_failed(state, event)
                return []
            case on.BusChanged():
                return self._bus_changed(event)
            case _:
                return []

    # -- requests

    def _arrived(self, event: on.RequestArrived) -> list[Effect]:
        state, request_id = self.state, event.request_id
        state.arrived_requests += 1
        if refusal := admission.refusal(state, event):
            state.rejected_requests += 1
            return [refusal]
        if event.failed_instance:
            instance = state.instances.get(event.failed_instance)
            if instance is not None and instance.address == event.failed_address:
                self._left(event.failed_instance, "a client could not reach it", event.now_us)
        request = Request(
            event.model, max(1, event.prompt_tokens), event.max_tokens, event.deadline_us,
            event.now_us, event.blocks, event.tenant, event.priority, event.attempt, event.direct,
        )  # fmt: skip
        look_up(state, request, event.now_us)
        seats = self._seats_of(event.model)
        if event.attempt == 0:
            late = admission.too_late(state, request, request_id, seats, event.now_us)
            if late is not None:
                state.rejected_requests += 1
                return [late]
        state.requests[request_id] = request
        return self._queue(request_id, event.now_us)

    def _request_ended(self, event: on.RequestEnded) -> list[Effect]:
        request = self.state.requests.get(event.request_id)
        if request is not None:
            admission.learn(self.state, request, event)
            self._learn_freed(request, event.now_us)
        return [*self._ended(event.request_id, event.now_us), *self._place_waiting(event.now_us)]

    def _learn_freed(self, request: Request, now_us: int) -> None:
        state = self.state
        instance = state.instances.get(request.decode)
        if instance is None or now_us <= state.freed_us:
            return
        rate = 1e6 * prompt_blocks(instance, request) / (now_us - state.freed_us)
        state.freed_blocks_per_s += FREED_SMOOTHING * (rate - state.freed_blocks_per_s)
        state.freed_us = now_us

    def _ended(self, request_id: str, now_us: int) -> list[Effect]:
        request = self.state.requests.get(request_id)
        if request is None:
            return []
        told: list[Effect] = []
        if request.queued:
            admission.dequeue(self.state, request_id)
        else:
            self._undispatch(request_id, request, now_us)
            told = self._tell_end(request_id)
        del self.state.requests[request_id]
        return [CancelTimer(WAIT + request_id), *told]

    def _first_token(self, request_id: str) -> None:
        request = self.state.requests.get(request_id)
        if request is None or request.queued or request.first_token:
            return
        request.first_token = True
        if instance := self.state.instances.get(request.decode):
            ledger.arrived(instance.ranks[request.decode_rank], request_id)
        if instance := self.state.instances.get(request.prefill):
            instance.background.pop(request_id, None)

    def _failed(self, event: on.AttemptFailed) -> list[Effect]:
        request = self.state.requests.get(event.request_id)
        if request is None or request.queued or request.attempt != event.attempt:
            return []
        if event.reason in FAULTS and event.instance in (request.prefill, request.decode):
            self._left(event.instance, f"{event.reason}: {event.message}", event.now_us)
        self._undispatch(event.request_id, request, event.now_us)
        told = self._tell_end(event.request_id)
        request.attempt += 1
        request.last_failure = f"{event.instance}: {event.message}"
        if request.attempt >= self.state.limits.attempts_max:
            message = f"{request.attempt} attempts failed, the last at {request.last_failure}"
            del self.state.requests[event.request_id]
            reject = do.Reject(event.request_id, "NO_INSTANCE", message, 1000)
            return [*told, reject, *self._place_waiting(event.now_us)]
        request.prompt_tokens = max(1, event.prompt_tokens)
        request.first_token = False
        return [*told, *self._queue(event.request_id, event.now_us)]

    def _queue(self, request_id: str, now_us: int) -> list[Effect]:
        """Let it wait for its turn, which may be at once."""
        state, request = self.state, self.state.requests[request_id]
        seats = self._seats_of(request.model)
        request.due_us = request.arrived_us
        if seats.decode:
            instance = seats.decode[0].instance
            tokens = request.prompt_tokens - instance.block_tokens * max(
                request.hits.values(), default=0
            )
            own_ms = instance.timing.prompt_ms(max(1, tokens), instance.tokens_per_pass)
            request.due_us += round(STRETCH * 1e3 * own_ms)
        admission.enqueue(state, request_id)
        placed = self._place_waiting(now_us)
        if not request.queued:
            return placed
        timer = SetTimer(WAIT + request_id, min(request.deadline_us, now_us + state.limits.wait_us))
        return [timer, *placed]

    def _waited_out(self, request_id: str, now_us: int) -> list[Effect]:
        request = self.state.requests.get(request_id)
        if request is None or not request.queued:
            return []
        if self._seats_of(request.model).decode:
            reason, message = "OVERLOADED", "every decode instance was full until the deadline"
        else:
            reason, message = "NO_INSTANCE", f"no decode instance of {request.model} is live"
        if request.last_failure:
            message += f" (before: {request.last_failure})"
        self.state.rejected_requests += 1
        return [*self._ended(request_id, now_us), do.Reject(request_id, reason, message, 1000)]

    def _tell_end(self, request_id: str) -> list[Effect]:
        return [do.TellSiblings(request_id, ended=True)] if self.state.siblings else []

    # -- placement

    def _seats_of(self, model: str) -> Seats:
        if model not in self._seats:
            self._seats[model] = seats_of(self.state, model)
        return self._seats[model]

    def _place_waiting(self, now_us: int) -> list[Effect]:
        """Send what goes now; look again when the next rank is expected to open."""
        state = self.state
        if not state.queued_requests:
            return []
        found: list[Effect] = []
        look = Round(state, now_us, self._seats)
        for request_id, choice in look.decide():
            found += self._dispatch(request_id, choice, now_us)
        if state.queued_requests:
            found.append(SetTimer(WINDOW, look.again_us))
        return found

    def _dispatch(self, request_id: str, choice: Choice, now_us: int) -> list[Effect]:
        state, request = self.state, self.state.requests[request_id]
        admission.dequeue(state, request_id)
        state.turns += 1
        tokens = choice.uncached_tokens
        admission.charge(state, request.tenant, tokens)
        share = 1 - tokens / request.prompt_tokens
        state.cached_share += admission.SMOOTHING * (share - state.cached_share)
        request.uncached_tokens = tokens
        request.prefill, request.prefill_rank = (
            choice.prefill.instance.name,
            choice.prefill.rank.number,
        )
        request.decode, request.decode_rank = choice.decode.instance.name, choice.decode.rank.number
        self._enter(request_id, request, choice, now_us)
        told: list[Effect] = []
        if state.siblings:
            told.append(
                do.TellSiblings(
                    request_id, False, request.prefill, request.prefill_rank, request.decode,
                    request.decode_rank, request.prompt_tokens, tokens, request.tenant,
                    request.blocks,
                )
            )  # fmt: skip
        dispatch = do.Dispatch(
            request_id, request.attempt, request.prefill, choice.prefill.instance.address,
            request.decode, choice.decode.instance.address, choice.why,
            request.prefill_rank, request.decode_rank, tokens,
        )  # fmt: skip
        if request.direct:
            del state.requests[request_id]
        return [CancelTimer(WAIT + request_id), dispatch, *told]

    def _enter(self, request_id: str, request: Request, choice: Choice, now_us: int) -> None:
        """Put a dispatch in the ledger and in the index."""
        prefill, decode = choice.prefill, choice.decode
        blocks = prompt_blocks(prefill.instance, request)
        done_us = now_us + first_token_us(prefill, choice.uncached_tokens, now_us, {})
        ledger.send(
            prefill.instance, prefill.rank, request_id, choice.uncached_tokens, blocks, now_us
        )
        if request.priority < 0:
            prefill.instance.background[request_id] = done_us
        if not choice.local:
            ledger.expect(
                decode.rank, request_id, prompt_blocks(decode.instance, request), done_us,
            )  # fmt: skip
            self.state.index.guess(decode.rank.holder, request.blocks, now_us + GUESS_US)
        self.state.index.guess(prefill.rank.holder, request.blocks, now_us + GUESS_US)

    def _undispatch(self, request_id: str, request: Request, now_us: int) -> None:
        for name, number in (
            (request.prefill, request.prefill_rank), (request.decode, request.decode_rank)
        ):  # fmt: skip
            if instance := self.state.instances.get(name):
                ledger.unsend(instance.ranks[number], request_id, now_us)
                instance.background.pop(request_id, None)

    # -- instances

    def _load_reported(self, event: on.LoadReported) -> list[Effect]:
        instance = self.state.instances.get(event.instance)
        if instance is None:
            return []
        was_live = instance.live
        if members.heard(self.state, event) is None:
            return []
        if not was_live:
            self._seats = {}
        return self._place_waiting(event.now_us)

    def _idle_predicted(self, event: on.IdlePredicted) -> list[Effect]:
        instance = self.state.instances.get(event.instance)
        if instance is None or instance.epoch != event.epoch or not instance.live:
            return []
        ledger.predicted_idle(instance, event.idle_at_us, event.now_us)
        return self._place_waiting(event.now_us)

    def _left(self, name: str, reason: str, now_us: int) -> None:
        members.left(self.state, name, reason, now_us)
        self._seats = {}

    def _bus_changed(self, event: on.BusChanged) -> list[Effect]:
        self.state.bus_connected = event.connected
        for instance in self.state.instances.values():
            instance.seen_us = max(instance.seen_us, event.now_us)
        return [SetTimer(SWEEP, event.now_us + SWEEP_US)]

    def _timer(self, event: TimerFired) -> list[Effect]:
        if event.key == WINDOW:
            return self._place_waiting(event.now_us)
        if event.key == SWEEP:
            return self._sweep(event.now_us)
        return self._waited_out(event.key.removeprefix(WAIT), event.now_us)

    def _sweep(self, now_us: int) -> list[Effect]:
        state = self.state
        ledger.expire(state, now_us)
        for name in members.silent(state, now_us):
            self._left(name, "not heard of", now_us)
        members.forget(state, now_us)
        admission.forget_tenants(state)
        siblings.forget(state, now_us)
        state.index.forget_guesses(now_us)
        state.index.sweep()
        self._seats = {}
        return [
            SetTimer(SWEEP, now_us + SWEEP_US), *members.retry_snapshots(state, now_us),
            *self._place_waiting(now_us),
        ]  # fmt: skip


SPEC = CoreSpec("router", on.RouterEvent, RouterState, RouterCore)
