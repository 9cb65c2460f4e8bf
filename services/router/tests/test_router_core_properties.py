"""What holds in the router's core whatever happens, in whatever order."""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from argosy.mesh.core import CancelTimer, Effect, Event, SetTimer, TimerFired
from argosy.router.core import effects as do
from argosy.router.core import events as on
from argosy.router.core.router import SPEC, SWEEP_US, WAIT
from argosy.router.core.state import RouterState

MS, S = 1_000, 1_000_000
LIMITS = {
    "queue_limit": 3, "attempts_max": 3, "disaggregate_min_tokens": 64,
    "stale_us": 3 * S, "ledger_us": 30 * S, "wait_us": 20 * S,
}  # fmt: skip
REASONS = ["INSTANCE_LOST", "KV_LOST", "DRAINING", "NOT_READY"]

names = st.sampled_from(["decode-0", "decode-1", "prefill-0", "prefill-1"])
epochs = st.sampled_from(["e1", "e2", "e3"])
addresses = st.sampled_from(["host:1", "host:2", "host:3", "host:4", "host:5"])
models = st.sampled_from(["m", "m", "m", "k"])
prompt_tokens = st.sampled_from([1, 63, 64, 3000, 5000])


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


class AnyOrder(RuleBasedStateMachine):
    """Feeds the core as a shell would, and a twin that is made anew before every event."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SPEC.build(RouterState(**LIMITS))
        self.twin_state = RouterState(**LIMITS)
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.requests = 0
        self.waiting: dict[str, int] = {}
        """Requests owed a Dispatch or Reject, with the attempt it shall be of."""
        self.direct: set[str] = set()
        self.placed: dict[str, do.Dispatch] = {}
        self.goodbyes: set[tuple[str, str]] = set()
        self.faulted_us: dict[str, int] = {}
        self.lag_us: dict[tuple[str, str], int] = {}
        self.heard_us: dict[str, int] = {}
        self.all_silent_us = 0
        """When several live instances were last silent all at once."""
        self.connected = False
        self.known: set[str] = set()

    # -- the shell's part

    def feed(self, event: Event) -> None:
        effects = self.core.step(event)
        assert msgspec.msgpack.encode(effects) == self.replayed(event)
        for effect in effects:
            self.perform(effect)
        self.check()

    def replayed(self, event: Event) -> bytes:
        twin = SPEC.build(round_trip(self.twin_state, SPEC.state))
        effects = twin.step(round_trip(event, SPEC.events))
        self.twin_state = twin.state
        return msgspec.msgpack.encode(effects)

    def perform(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                self.timers[effect.key] = effect.at_us
            case CancelTimer():
                self.timers.pop(effect.key, None)
            case do.Reject():
                del self.waiting[effect.request_id]
                self.direct.discard(effect.request_id)
            case do.Dispatch():
                self.dispatched(effect)
            case do.ForgetAddress():
                assert effect.address not in {i.address for i in self.state.instances.values()}

    def dispatched(self, dispatch: do.Dispatch) -> None:
        assert self.waiting.pop(dispatch.request_id) == dispatch.attempt
        for name, address in (
            (dispatch.prefill, dispatch.prefill_address),
            (dispatch.decode, dispatch.decode_address),
        ):
            instance = self.state.instances[name]
            assert instance.address == address
            assert (name, instance.epoch) not in self.goodbyes
            assert name not in self.faulted_us
            silent_us = self.now_us - self.heard_us[name]
            bus_seems_gone = self.now_us - self.all_silent_us <= SWEEP_US or not self.connected
            assert bus_seems_gone or silent_us <= LIMITS["stale_us"] + SWEEP_US
        assert self.state.instances[dispatch.decode].role == "decode"
        if dispatch.request_id in self.direct:
            self.direct.remove(dispatch.request_id)
        else:
            self.placed[dispatch.request_id] = dispatch

    def check(self) -> None:
        state = self.state
        live = [name for name, instance in state.instances.items() if instance.live]
        stale_us = self.now_us - LIMITS["stale_us"]
        if len(live) > 1 and all(self.heard_us[name] < stale_us for name in live):
            self.all_silent_us = self.now_us
        forgotten = self.known - state.instances.keys()
        self.known = set(state.instances)
        self.goodbyes = {goodbye for goodbye in self.goodbyes if goodbye[0] not in forgotten}
        assert len(state.queue) == len(set(state.queue))
        assert set(state.queue) == set(self.waiting)
        assert set(state.requests) == {*self.waiting, *self.placed}
        assert all(state.requests[name].queued == (name in self.waiting) for name in state.requests)
        arrivals = [state.requests[name].arrived_us for name in state.queue]
        assert arrivals == sorted(arrivals)
        fresh = [name for name in state.queue if not state.requests[name].last_failure]
        assert len(fresh) <= state.queue_limit
        for name, instance in state.instances.items():
            assert not self.waiting.keys() & instance.dispatched.keys()
            for request_id in self.placed.keys() & instance.dispatched.keys():
                dispatch = self.placed[request_id]
                assert name in {dispatch.prefill, dispatch.decode}
        wanted = {state.requests[name].model for name in state.queue}
        for instance in state.instances.values():
            has_room = instance.live and instance.requests < 2 * instance.max_running_requests
            assert not (has_room and instance.role == "decode" and instance.model in wanted)
        assert {key for key in self.timers if key.startswith(WAIT)} == {
            WAIT + name for name in state.queue
        }

    @property
    def state(self) -> RouterState:
        state = self.core.state
        assert isinstance(state, RouterState)
        return state

    # -- what happens

    @initialize(connected=st.booleans())
    def start(self, connected: bool) -> None:
        self.change_bus(connected)

    @rule(us=st.sampled_from([1, MS, 30 * MS, S, 4 * S, 35 * S]))
    def pass_time(self, us: int) -> None:
        until_us = self.now_us + us
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until_us):
            self.now_us, key = max(due[0][0], self.now_us), due[0][1]
            del self.timers[key]
            self.feed(TimerFired(self.now_us, key))
        self.now_us = until_us

    @rule(connected=st.booleans())
    def change_bus(self, connected: bool) -> None:
        self.connected = connected
        self.heard_us = dict.fromkeys(self.heard_us, self.now_us)
        self.feed(on.BusChanged(self.now_us, connected))

    @rule(
        name=names, epoch=epochs, address=addresses, model=models, running=st.integers(1, 2),
        ago_us=st.sampled_from([0, S, 5 * S]),
    )  # fmt: skip
    def join(
        self, name: str, epoch: str, address: str, model: str, running: int, ago_us: int
    ) -> None:
        known = self.state.instances.get(name)
        if known is not None and known.epoch == epoch:
            address, model = known.address, known.model
        else:
            self.lag_us.pop((name, epoch), None)
        role = name.partition("-")[0]
        self.heard_us[name] = self.now_us
        self.faulted_us.pop(name, None)
        if (known is None or known.epoch != epoch) and ago_us > LIMITS["stale_us"]:
            self.faulted_us[name] = 0
        announced_us = self.now_us - ago_us
        self.feed(
            on.InstanceJoined(
                self.now_us, name, epoch, role, address, "n1", model, 100, 32, 4096, running,
                announced_us,
            )
        )  # fmt: skip

    @rule(name=names, epoch=epochs)
    def leave(self, name: str, epoch: str) -> None:
        self.goodbyes.add((name, epoch))
        self.feed(on.InstanceLeft(self.now_us, name, epoch, "stopped"))

    @rule(
        name=names, epoch=epochs, running=st.integers(0, 5), tokens=st.integers(0, 5000),
        lag_us=st.sampled_from([0, MS, 30 * MS, 5 * S]),
    )  # fmt: skip
    def report(self, name: str, epoch: str, running: int, tokens: int, lag_us: int) -> None:
        instance = self.state.instances.get(name)
        at_us = self.now_us - lag_us
        if instance is not None and instance.epoch == epoch:
            self.heard_us[name] = self.now_us
            quickest_us = min(lag_us, self.lag_us.get((name, epoch), lag_us))
            self.lag_us[name, epoch] = quickest_us
            if at_us + quickest_us > self.faulted_us.get(name, 0):
                self.faulted_us.pop(name, None)
        load = on.LoadReported(self.now_us, name, epoch, running, 0, tokens, 0, at_us)
        self.feed(load)

    @rule(name=names, epoch=epochs)
    def predict(self, name: str, epoch: str) -> None:
        self.feed(on.IdlePredicted(self.now_us, name, epoch, self.now_us + S))

    @rule(
        tokens=prompt_tokens, model=models, direct=st.booleans(), attempt=st.integers(0, 3),
        within_us=st.sampled_from([0, S, 60 * S]),
    )  # fmt: skip
    def arrive(self, tokens: int, model: str, direct: bool, attempt: int, within_us: int) -> None:
        self.requests += 1
        name, attempt = f"r{self.requests}", attempt if direct else 0
        self.waiting[name] = attempt
        if direct:
            self.direct.add(name)
        self.feed(
            on.RequestArrived(
                self.now_us, name, model, tokens, 16, self.now_us + within_us, attempt, direct
            )
        )

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        del self.placed[name]
        self.feed(on.RequestEnded(self.now_us, name))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[name]
        self.direct.discard(name)
        self.feed(on.RequestEnded(self.now_us, name))

    @precondition(lambda self: self.placed)
    @rule(data=st.data(), reason=st.sampled_from(REASONS), at_prefill=st.booleans())
    def fail(self, data: st.DataObject, reason: str, at_prefill: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        dispatch = self.placed.pop(name)
        culprit = dispatch.prefill if at_prefill else dispatch.decode
        self.waiting[name] = dispatch.attempt + 1
        if reason != "KV_LOST" and self.state.instances[culprit].live:
            self.faulted_us[culprit] = self.now_us
        self.feed(
            on.AttemptFailed(
                self.now_us, name, dispatch.attempt, reason, "it broke", culprit, 100
            )
        )  # fmt: skip

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def fail_late(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        dispatch = self.placed[name]
        stale = dispatch.attempt - 1
        self.feed(
            on.AttemptFailed(
                self.now_us, name, stale, "INSTANCE_LOST", "it broke", dispatch.decode, 100
            )
        )

    def teardown(self) -> None:
        """With instances back and time to wait, nobody is left without an answer."""
        for name in sorted(self.placed):
            del self.placed[name]
            self.feed(on.RequestEnded(self.now_us, name))
        self.pass_time(LIMITS["wait_us"])
        assert not self.waiting


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
