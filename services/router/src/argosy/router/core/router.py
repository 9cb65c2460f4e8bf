"""The router's decisions, one event at a time.

A request is queued until it can be placed, placed until it ends, and placed again when its
instance fails, up to `attempts_max` times in a row. An instance at fault is not used until it
announces itself anew or reports again. A request whose deadline passes while it waits is
refused; so is one that finds the queue full, or whose first token is predicted to come too late
(`admission`). `schedule` decides when and where waiting requests go, `placing` carries that out,
`members` knows which instances there are.
"""

from msgspec.structs import replace

from argosy.domain.core import CancelTimer, Effect, SetTimer, TimerFired
from argosy.domain.errors import INSTANCE_LIMITS, NO_FAILURES, Reason
from argosy.router.core import effects, events
from argosy.router.core.fleet import (
    kv_holders,
    kv_stores,
    load_ledger,
    members,
    peer_routers,
    traffic,
    wake_demand,
)
from argosy.router.core.fleet.estimates import blocks_of
from argosy.router.core.placement import admission
from argosy.router.core.placement.placing import WAIT, WINDOW, Placing
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.placement.schedule import look_up_hits
from argosy.router.core.state import RouterState, TrackedRequest

SWEEP = "sweep"
SWEEP_US = 500_000
"""A sixth of `stale_us`: an instance that falls silent is found soon after."""
FREED_HALF_US = 10_000_000
"""Over this time the rate at which KV is freed is smoothed: several answers of each instance."""
FREED_TO_RATE = 0.693147e6 / FREED_HALF_US
"""ln 2 / half-life, per second: turns the decaying sum into a rate."""
FAULTS = frozenset({"INSTANCE_LOST", "DRAINING", "NOT_READY"})
"""Failures after which the instance is not to be used; others fault the attempt only."""
FULL = Reason.OVERLOADED.name
LIMITS = frozenset(reason.name for reason in INSTANCE_LIMITS)
UNCOUNTED = frozenset(reason.name for reason in NO_FAILURES)


class RouterCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: RouterState, policy: RoutingPolicy) -> None:
        self.state = state
        self._placing = Placing(state, policy)

    def step(self, event: events.RouterEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case events.LoadReported():
                return self._load_reported(event)
            case events.KvChanged():
                return kv_holders.kv_changed(self.state, event)
            case events.RequestArrived():
                return self._arrived(event)
            case events.RequestEnded():
                return self._request_ended(event)
            case events.FirstTokenSeen():
                self._first_token(event)
                return []
            case events.AttemptFailed():
                return self._failed(event)
            case events.IdlePredicted():
                return self._idle_predicted(event)
            case events.StoreSeen():
                return kv_stores.seen(self.state, event)
            case events.PeerRouterSeen() | events.PeerRouterDispatched() | events.PeerRouterEnded():
                peer_routers.heard(self.state, event)
                return []
            case TimerFired():
                return self._timer(event)
            case events.ObjectivesChanged():
                self._objectives_changed(event)
                return []
            case _:
                return self._members_changed(event)

    def _members_changed(self, event: events.RouterEvent) -> list[Effect]:
        state = self.state
        self._placing.instances_changed()
        match event:
            case events.InstanceJoined():
                return [*members.joined(state, event), *self._placing.place_waiting(event.now_us)]
            case events.InstanceLeft():
                members.left(state, event)
                return []
            case events.InstanceLifecycleChanged():
                members.changed(state, event)
                return self._placing.place_waiting(event.now_us)
            case events.KvSnapshotTaken():
                return kv_holders.snapshot_taken(state, event)
            case events.KvSnapshotFailed():
                kv_holders.snapshot_failed(state, event)
                return []
            case events.BusChanged():
                return self._bus_changed(event)
            case _:
                return []

    # -- requests

    def _arrived(self, event: events.RequestArrived) -> list[Effect]:
        state, request_id = self.state, event.request_id
        state.arrived_requests += 1
        refusal = admission.refusal(state, event)
        traffic.arrived(state, event, refusal)
        if refusal is not None:
            state.rejected_requests += 1
            return [refusal]
        if event.failed_instance:
            instance = state.instances.get(event.failed_instance)
            if instance is not None and instance.address == event.failed_address:
                if event.failed_reason == FULL:
                    members.refused(state, event.failed_instance, event.now_us)
                elif event.failed_reason not in LIMITS:
                    self._left(event.failed_instance, "a client could not reach it", event.now_us)
        request = TrackedRequest(
            event.model,
            max(1, event.prompt_tokens),
            event.max_tokens,
            event.deadline_us,
            event.now_us,
            event.blocks,
            event.tenant,
            event.priority,
            event.attempt,
            event.failures,
            event.direct,
            is_new=traffic.is_new(event),
        )
        look_up_hits(state, request, event.now_us)
        candidates = self._placing.candidates_of(event.model)
        if event.attempt == 0:
            late = admission.too_late(state, request, request_id, candidates, event.now_us)
            if late is not None:
                state.rejected_requests += 1
                return [late]
        state.requests[request_id] = request
        return self._placing.queue(request_id, event.now_us)

    def _request_ended(self, event: events.RequestEnded) -> list[Effect]:
        request = self.state.requests.get(event.request_id)
        if request is not None:
            if event.output_tokens:
                traffic.started(self.state, request, event.now_us)
            admission.learn(self.state, request, event)
            self._learn_freed(request, event.now_us)
        return [
            *self._ended(event.request_id, event.now_us),
            *self._placing.place_waiting(event.now_us),
        ]

    def _learn_freed(self, request: TrackedRequest, now_us: int) -> None:
        state = self.state
        instance = state.instances.get(request.decode)
        if instance is None:
            return
        past = load_ledger.decayed(state.freed_blocks_per_s, now_us - state.freed_us, FREED_HALF_US)
        state.freed_blocks_per_s = past + FREED_TO_RATE * blocks_of(instance, request.prompt_tokens)
        state.freed_us = now_us

    def _ended(self, request_id: str, now_us: int) -> list[Effect]:
        request = self.state.requests.get(request_id)
        if request is None:
            return []
        published: list[Effect] = []
        if request.queued:
            admission.dequeue(self.state, request_id)
        else:
            self._placing.undispatch(request_id, request)
            published = self._placing.publish_end(request_id)
        del self.state.requests[request_id]
        return [CancelTimer(key=WAIT + request_id), *published]

    def _first_token(self, event: events.FirstTokenSeen) -> None:
        request = self.state.requests.get(event.request_id)
        if request is None or request.queued or request.first_token:
            return
        request.first_token = True
        traffic.started(self.state, request, event.now_us)
        if rank := members.rank_of(self.state, request.decode, request.decode_rank):
            load_ledger.arrived(rank, event.request_id)

    def _failed(self, event: events.AttemptFailed) -> list[Effect]:
        request = self.state.requests.get(event.request_id)
        if request is None or request.queued or request.attempt != event.attempt:
            return []
        if event.reason in FAULTS and event.instance in (request.prefill, request.decode):
            self._left(event.instance, f"{event.reason}: {event.message}", event.now_us)
        if event.reason == FULL:
            members.refused(self.state, event.instance, event.now_us)
        self._placing.undispatch(event.request_id, request)
        published = self._placing.publish_end(event.request_id)
        request.attempt += 1
        if event.prompt_tokens > request.prompt_tokens:
            request.failures = 0
        request.failures += event.reason not in UNCOUNTED
        request.last_failure = f"{event.instance}: {event.message}"
        if request.failures >= self.state.limits.attempts_max:
            message = f"{request.failures} attempts failed, the last at {request.last_failure}"
            del self.state.requests[event.request_id]
            reject = effects.Reject(
                request_id=event.request_id,
                reason="NO_INSTANCE",
                message=message,
                retry_after_ms=1000,
            )
            return [*published, reject, *self._placing.place_waiting(event.now_us)]
        request.prompt_tokens = max(1, event.prompt_tokens)
        request.first_token = False
        return [*published, *self._placing.queue(event.request_id, event.now_us)]

    def _waited_out(self, request_id: str, now_us: int) -> list[Effect]:
        request = self.state.requests.get(request_id)
        if request is None or not request.queued:
            return []
        if self._placing.candidates_of(request.model).decode:
            reason, message = "OVERLOADED", "every decode instance was full until the deadline"
        else:
            reason = "NO_INSTANCE"
            message = f"no decode instance of {request.model} is live or woke; see `argosy status`"
        if request.last_failure:
            message += f" (before: {request.last_failure})"
        self.state.rejected_requests += 1
        return [
            *self._ended(request_id, now_us),
            effects.Reject(
                request_id=request_id, reason=reason, message=message, retry_after_ms=1000
            ),
        ]

    # -- instances

    def _load_reported(self, event: events.LoadReported) -> list[Effect]:
        instance = self.state.instances.get(event.instance)
        if instance is None:
            members.heard(self.state, event)
            return []
        was_live = instance.live
        heard = members.heard(self.state, event)
        # Those that sleep report too: that alone makes nothing known of candidates wrong.
        if instance.live != was_live:
            self._placing.instances_changed()
        if heard is None:
            return []
        return self._placing.place_waiting(event.now_us)

    def _idle_predicted(self, event: events.IdlePredicted) -> list[Effect]:
        instance = self.state.instances.get(event.instance)
        if instance is None or instance.epoch != event.epoch or not instance.live:
            return []
        load_ledger.predicted_idle(instance, event.idle_at_us, event.now_us)
        return self._placing.place_waiting(event.now_us)

    def _left(self, name: str, reason: str, now_us: int) -> None:
        members.unreachable(self.state, name, reason, now_us)
        self._placing.instances_changed()

    def _objectives_changed(self, event: events.ObjectivesChanged) -> None:
        state = self.state
        if event.generation >= state.objectives_generation:
            state.objectives_generation = event.generation
            state.limits = replace(state.limits, slo=event.slo)

    def _bus_changed(self, event: events.BusChanged) -> list[Effect]:
        self.state.bus_connected = event.connected
        for instance in self.state.instances.values():
            instance.seen_us = max(instance.seen_us, event.now_us)
        kv_stores.bus_changed(self.state, event.now_us)
        return [SetTimer(key=SWEEP, at_us=event.now_us + SWEEP_US)]

    def _timer(self, event: TimerFired) -> list[Effect]:
        if event.key == WINDOW:
            return self._placing.place_waiting(event.now_us)
        if event.key == SWEEP:
            return self._sweep(event.now_us)
        return self._waited_out(event.key.removeprefix(WAIT), event.now_us)

    def _sweep(self, now_us: int) -> list[Effect]:
        state = self.state
        load_ledger.expire(state, now_us)
        for name in members.silent(state, now_us):
            self._left(name, "no report for stale_us", now_us)
        members.forget(state, now_us)
        admission.forget_tenants(state)
        peer_routers.forget(state, now_us)
        state.index.forget_speculative(now_us)
        state.index.sweep()
        kv_stores.forget(state, now_us)
        state.stored.sweep()
        self._placing.instances_changed()
        return [
            SetTimer(key=SWEEP, at_us=now_us + SWEEP_US),
            *kv_holders.retry_snapshots(state, now_us),
            *self._placing.place_waiting(now_us),
            *self._demands(now_us),
        ]

    def _demands(self, now_us: int) -> list[Effect]:
        """The demand for models of which no instance is awake."""
        if not self.state.queued_requests:
            return []
        asleep = [m for m in self.state.models if not self._placing.candidates_of(m).decode]
        return [
            effect for model in asleep for effect in wake_demand.demand(self.state, model, now_us)
        ]
