"""What holds in the router's core whatever happens, in whatever order."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from suite_plugin import examples

from argosy.domain.core import CancelTimer, Effect, Event, SetTimer, TimerFired
from argosy.router.core import effects, events
from argosy.router.core.placement.placing import WAIT, WINDOW
from argosy.router.core.prefix_index import PrefixIndex
from argosy.router.core.router import SWEEP_US
from argosy.router.core.state import RouterLimits, RouterState, new_state
from argosy.router.policies import SPEC, policy_names

MS, S = 1_000, 1_000_000
LIMITS = {"queue_limit": 3, "attempts_max": 3, "stale_us": 3 * S, "ledger_us": 30 * S}
WAIT_US = 20 * S
FAULTS = ["INSTANCE_LOST", "DRAINING", "NOT_READY"]
REASONS = [*FAULTS, "KV_LOST", "OVERLOADED", "TICKET_EXPIRED"]

names = st.sampled_from(["decode-0", "decode-1", "prefill-0", "free-0"])
epochs = st.sampled_from(["e1", "e2", "e3"])
addresses = st.sampled_from(["host:1", "host:2", "host:3", "host:4", "host:5"])
models = st.sampled_from(["m", "m", "m", "k"])
prompt_tokens = st.sampled_from([0, 1, 63, 64, 3000, 5000])
blocks = st.lists(st.integers(1, 8), max_size=4)


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


def made_anew(state: RouterState) -> RouterState:
    snapshot = msgspec.msgpack.encode(state, enc_hook=PrefixIndex.to_snapshot)
    return msgspec.msgpack.decode(
        snapshot, type=RouterState, dec_hook=lambda _, snapshot: PrefixIndex.from_snapshot(snapshot)
    )


class AnyRouterOrder(RuleBasedStateMachine):
    """Feeds the core as a shell would, and a twin that is made anew before every event."""

    policy = RouterLimits().policy

    def __init__(self) -> None:
        super().__init__()
        limits = RouterLimits(**LIMITS, wait_us=WAIT_US, policy=self.policy, index_blocks_max=12)
        self.core = SPEC.build(new_state(limits))
        self.twin = SPEC.build(new_state(limits))
        self.now_us = 1_700_000_000 * S
        self.timers: dict[str, int] = {}
        self.requests = 0
        self.waiting: dict[str, int] = {}
        """Requests owed a Dispatch or Reject, with the attempt it shall be of."""
        self.direct: set[str] = set()
        self.placed: dict[str, effects.Dispatch] = {}
        self.goodbyes: set[tuple[str, str]] = set()
        self.announced_us: dict[str, dict[str, int]] = {}
        """By instance and epoch, in the order in which its processes were."""
        self.faulted_us: dict[str, int] = {}
        self.lag_us: dict[tuple[str, str], int] = {}
        self.heard_us: dict[str, int] = {}
        self.all_silent_us = 0
        """When several live instances were last silent all at once."""
        self.connected = False
        self.known: set[str] = set()

    # -- the shell's part

    def feed(self, event: Event) -> None:
        decided = self.core.step(event)
        self.twin = SPEC.build(made_anew(self.twin.state))
        assert list(self.twin.step(round_trip(event, SPEC.events))) == decided
        for effect in decided:
            self.perform(effect)
        self.check_requests()
        self.check_ledger()

    def perform(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                assert effect.at_us > self.now_us or effect.key.startswith(WAIT)
                self.timers[effect.key] = effect.at_us
            case CancelTimer():
                self.timers.pop(effect.key, None)
            case effects.Reject():
                del self.waiting[effect.request_id]
                self.direct.discard(effect.request_id)
            case effects.Dispatch():
                self.dispatched(effect)
            case effects.ForgetAddress():
                assert effect.address not in {i.address for i in self.state.instances.values()}

    def dispatched(self, dispatch: effects.Dispatch) -> None:
        assert self.waiting.pop(dispatch.request_id) == dispatch.attempt
        for name, address, rank in (
            (dispatch.prefill, dispatch.prefill_address, dispatch.prefill_rank),
            (dispatch.decode, dispatch.decode_address, dispatch.decode_rank),
        ):
            instance = self.state.instances[name]
            assert (instance.address, instance.ranks[rank].number) == (address, rank)
            assert (name, instance.epoch) not in self.goodbyes
            assert name not in self.faulted_us
            assert name not in self.state.refusing
            silent_us = self.now_us - self.heard_us[name]
            bus_seems_gone = self.now_us - self.all_silent_us <= SWEEP_US or not self.connected
            assert bus_seems_gone or silent_us <= LIMITS["stale_us"] + SWEEP_US
        assert self.state.instances[dispatch.decode].role != "prefill"
        assert dispatch.uncached_tokens >= 1
        if dispatch.request_id in self.direct:
            self.direct.remove(dispatch.request_id)
        else:
            self.placed[dispatch.request_id] = dispatch

    def check_requests(self) -> None:
        state = self.state
        live = [name for name, instance in state.instances.items() if instance.live]
        stale_us = self.now_us - LIMITS["stale_us"]
        if len(live) > 1 and all(self.heard_us[name] < stale_us for name in live):
            self.all_silent_us = self.now_us
        forgotten = self.known - state.instances.keys()
        self.known = set(state.instances)
        self.goodbyes = {goodbye for goodbye in self.goodbyes if goodbye[0] not in forgotten}
        for name in sorted(forgotten):
            self.announced_us.pop(name, None)
        queued = {name for name, request in state.requests.items() if request.queued}
        assert queued == set(self.waiting)
        assert set(state.requests) == {*self.waiting, *self.placed}
        lists = [
            waiting for tenant in state.tenants.values() for waiting in tenant.waiting.values()
        ]
        assert sorted(name for waiting in lists for name in waiting) == sorted(queued)
        assert all(lists)
        assert state.queued_requests == len(queued)
        bands: dict[int, int] = {}
        for name in queued:
            band = state.requests[name].priority
            bands[band] = bands.get(band, 0) + state.requests[name].prompt_tokens
        assert state.queued_by_band == bands
        assert state.waiting_tenants == {
            band: sorted(name for name, tenant in state.tenants.items() if band in tenant.waiting)
            for band in bands
        }
        fresh = [name for name in queued if not state.requests[name].last_failure]
        assert len(fresh) <= LIMITS["queue_limit"]
        assert {key for key in self.timers if key.startswith(WAIT)} == {
            WAIT + name for name in queued
        }
        assert not queued or self.timers[WINDOW] >= self.now_us

    def check_ledger(self) -> None:
        for name, instance in self.state.instances.items():
            for rank in instance.ranks:
                here = rank.sent.keys() | rank.inbound.keys()
                assert not self.waiting.keys() & here
                for request_id in self.placed.keys() & here:
                    dispatch = self.placed[request_id]
                    ends = {
                        (dispatch.prefill, dispatch.prefill_rank),
                        (dispatch.decode, dispatch.decode_rank),
                    }
                    assert (name, rank.number) in ends
                assert rank.sent_blocks == sum(sent.kv_blocks for sent in rank.sent.values())
                assert rank.inbound_blocks == sum(kv for kv, _ in rank.inbound.values())
                assert min(rank.step_tokens, rank.backlog_tokens, rank.requests) >= 0
                if instance.final:
                    assert self.state.index.held_by(rank.holder) == 0

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
            self.feed(TimerFired(now_us=self.now_us, key=key))
        self.now_us = until_us

    @rule(connected=st.booleans())
    def change_bus(self, connected: bool) -> None:
        self.connected = connected
        self.heard_us = dict.fromkeys(self.heard_us, self.now_us)
        self.feed(events.BusChanged(now_us=self.now_us, connected=connected))

    @rule(
        name=names,
        epoch=epochs,
        address=addresses,
        model=models,
        running=st.integers(1, 2),
        ago_us=st.sampled_from([0, S, 5 * S]),
        ranks=st.integers(1, 2),
    )
    def join(
        self, name: str, epoch: str, address: str, model: str, running: int, ago_us: int, ranks: int
    ) -> None:
        known = self.state.instances.get(name)
        announced_us = self.announced_us.setdefault(name, {})
        at_us = max([self.now_us - ago_us, *announced_us.values()])
        replaced = epoch in announced_us and epoch != list(announced_us)[-1]
        # A process that ended or has a successor does not come back: this fact of it is late.
        is_late = replaced or (name, epoch) in self.goodbyes
        if is_late:
            at_us = announced_us.get(epoch, self.now_us - ago_us)
        else:
            announced_us.setdefault(epoch, at_us)
        if known is not None and known.epoch == epoch:
            address, model = known.address, known.model
        else:
            self.lag_us.pop((name, epoch), None)
        if not is_late:
            self.heard_us[name] = self.now_us
            self.faulted_us.pop(name, None)
            is_old = self.now_us - at_us > LIMITS["stale_us"]
            if (known is None or known.epoch != epoch) and is_old:
                self.faulted_us[name] = 0
        self.feed(
            events.InstanceJoined(
                now_us=self.now_us,
                instance=name,
                epoch=epoch,
                role=name.partition("-")[0],
                address=address,
                node="n1",
                model=model,
                kv_total_blocks=100,
                block_tokens=32,
                max_model_tokens=4096,
                max_running_requests=running,
                announced_us=at_us,
                dp_ranks=ranks,
            )
        )

    @rule(name=names, epoch=epochs)
    def leave(self, name: str, epoch: str) -> None:
        self.goodbyes.add((name, epoch))
        self.feed(
            events.InstanceLeft(now_us=self.now_us, instance=name, epoch=epoch, reason="stopped")
        )

    @rule(
        name=names,
        epoch=epochs,
        running=st.integers(0, 5),
        tokens=st.integers(0, 5000),
        lag_us=st.sampled_from([0, MS, 30 * MS, 5 * S]),
        ranks=st.integers(0, 2),
    )
    def report(
        self, name: str, epoch: str, running: int, tokens: int, lag_us: int, ranks: int
    ) -> None:
        instance = self.state.instances.get(name)
        at_us = self.now_us - lag_us
        if instance is not None and instance.epoch == epoch:
            self.heard_us[name] = self.now_us
            quickest_us = min(lag_us, self.lag_us.get((name, epoch), lag_us))
            self.lag_us[name, epoch] = quickest_us
            if at_us + quickest_us > self.faulted_us.get(name, 0):
                self.faulted_us.pop(name, None)
        loads = [events.RankLoad(running, 0, tokens, 10 * running)] * ranks
        self.feed(
            events.LoadReported(
                now_us=self.now_us,
                instance=name,
                epoch=epoch,
                ranks=loads,
                at_us=at_us,
                step_us=tokens * 10,
            )
        )

    @rule(name=names, epoch=epochs, in_us=st.sampled_from([-S, 0, S]))
    def predict(self, name: str, epoch: str, in_us: int) -> None:
        self.feed(
            events.IdlePredicted(
                now_us=self.now_us, instance=name, epoch=epoch, idle_at_us=self.now_us + in_us
            )
        )

    @rule(
        name=names,
        epoch=epochs,
        sequence=st.integers(1, 5),
        stored=blocks,
        removed=blocks,
        cleared=st.booleans(),
        rank=st.integers(0, 2),
    )
    def change_kv(
        self,
        name: str,
        epoch: str,
        sequence: int,
        stored: list[int],
        removed: list[int],
        cleared: bool,
        rank: int,
    ) -> None:
        self.feed(
            events.KvChanged(
                now_us=self.now_us,
                instance=name,
                epoch=epoch,
                sequence=sequence,
                stored=stored,
                removed=removed,
                cleared=cleared,
                dp_rank=rank,
            )
        )

    @rule(name=names, epoch=epochs, sequence=st.integers(0, 5), held=st.lists(blocks, max_size=3))
    def answer_snapshot(self, name: str, epoch: str, sequence: int, held: list[list[int]]) -> None:
        if held:
            self.feed(
                events.KvSnapshotTaken(
                    now_us=self.now_us, instance=name, epoch=epoch, sequence=sequence, blocks=held
                )
            )
        else:
            self.feed(events.KvSnapshotFailed(now_us=self.now_us, instance=name, epoch=epoch))

    @rule(prefill=names, decode=names, rank=st.integers(0, 1), number=st.integers(0, 2))
    def hear_of_peer_router(self, prefill: str, decode: str, rank: int, number: int) -> None:
        self.feed(events.PeerRouterSeen(now_us=self.now_us, router="other"))
        self.feed(
            events.PeerRouterDispatched(
                now_us=self.now_us,
                router="other",
                request_id=f"s{number}",
                prefill=prefill,
                prefill_rank=rank,
                decode=decode,
                decode_rank=0,
                prompt_tokens=100,
                uncached_tokens=50,
                blocks=[1, 2],
            )
        )

    @rule(number=st.integers(0, 2))
    def hear_of_peer_routers_end(self, number: int) -> None:
        self.feed(
            events.PeerRouterEnded(now_us=self.now_us, router="other", request_ids=[f"s{number}"])
        )

    @rule(
        tokens=prompt_tokens,
        model=models,
        direct=st.booleans(),
        attempt=st.integers(0, 3),
        within_us=st.sampled_from([0, S, 60 * S]),
        prompt=blocks,
        tenant=st.sampled_from(["", "t"]),
        priority=st.integers(-1, 1),
    )
    def arrive(
        self,
        tokens: int,
        model: str,
        direct: bool,
        attempt: int,
        within_us: int,
        prompt: list[int],
        tenant: str,
        priority: int,
    ) -> None:
        self.requests += 1
        name, attempt = f"r{self.requests}", attempt if direct else 0
        self.waiting[name] = attempt
        if direct:
            self.direct.add(name)
        self.feed(
            events.RequestArrived(
                now_us=self.now_us,
                request_id=name,
                model=model,
                prompt_tokens=tokens,
                max_tokens=16,
                deadline_us=self.now_us + within_us,
                attempt=attempt,
                direct=direct,
                blocks=prompt,
                tenant=tenant,
                priority=priority,
            )
        )

    @precondition(lambda self: self.placed)
    @rule(data=st.data(), cached=st.sampled_from([None, 0, 50]))
    def end(self, data: st.DataObject, cached: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        del self.placed[name]
        self.feed(
            events.RequestEnded(
                now_us=self.now_us, request_id=name, output_tokens=7, cached_tokens=cached
            )
        )

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def see_first_token(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        self.feed(events.FirstTokenSeen(now_us=self.now_us, request_id=name))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[name]
        self.direct.discard(name)
        self.feed(events.RequestEnded(now_us=self.now_us, request_id=name))

    @precondition(lambda self: self.placed)
    @rule(data=st.data(), reason=st.sampled_from(REASONS), at_prefill=st.booleans())
    def fail(self, data: st.DataObject, reason: str, at_prefill: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        dispatch = self.placed.pop(name)
        culprit = dispatch.prefill if at_prefill else dispatch.decode
        self.waiting[name] = dispatch.attempt + 1
        known = self.state.instances.get(culprit)
        if reason in FAULTS and known is not None and known.live:
            self.faulted_us[culprit] = self.now_us
        self.feed(
            events.AttemptFailed(
                now_us=self.now_us,
                request_id=name,
                attempt=dispatch.attempt,
                reason=reason,
                message="it broke",
                instance=culprit,
                prompt_tokens=100,
            )
        )

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def fail_late(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        dispatch = self.placed[name]
        stale = dispatch.attempt - 1
        self.feed(
            events.AttemptFailed(
                now_us=self.now_us,
                request_id=name,
                attempt=stale,
                reason="INSTANCE_LOST",
                message="it broke",
                instance=dispatch.decode,
                prompt_tokens=100,
            )
        )

    def teardown(self) -> None:
        """With time to wait, nobody is left without an answer."""
        for name in sorted(self.placed):
            del self.placed[name]
            self.feed(events.RequestEnded(now_us=self.now_us, request_id=name))
        self.pass_time(WAIT_US)
        assert not self.waiting


TestAnyOrder = AnyRouterOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(60), stateful_step_count=50)


@pytest.mark.parametrize(
    "policy", [name for name in policy_names() if name != RouterLimits().policy]
)
def test_the_same_holds_under_every_policy(policy: str) -> None:
    case = type("AnyOrderOfPolicy", (AnyRouterOrder,), {"policy": policy}).TestCase
    case.settings = settings(max_examples=examples(15), stateful_step_count=40)
    case("runTest").runTest()
