"""The bus against a real nats-server: who hears what, through outages and restarts."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from argosy.launcher.nats_process import NatsProcess, nats_command
from argosy.mesh import control_log, outbox
from argosy.mesh.bus import Bus, Envelope
from argosy.wire.inference.v1.inference_pb2 import Load
from argosy.wire.instance.v1.events_pb2 import InstanceReady, InstanceStopped
from argosy.wire.operator.v1.events_pb2 import FleetApplied
from argosy.wire.prefill.v1.events_pb2 import LoadReported

Join = Callable[..., Bus]


def load(number: int) -> LoadReported:
    return LoadReported(load=Load(instance_id="p", running_requests=number))


def ready(instance: str, address: str = "") -> InstanceReady:
    return InstanceReady(instance_id=instance, address=address)


class Inbox:
    """What a listener heard: numbers of loads, `instance address` of readiness."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.envelopes: list[Envelope] = []

    def loads(self, fact: LoadReported, envelope: Envelope) -> None:
        self.heard.append(fact.load.running_requests)
        self.envelopes.append(envelope)

    def readiness(self, fact: InstanceReady, envelope: Envelope) -> None:
        self.heard.append(f"{fact.instance_id} {fact.address}".strip())
        self.envelopes.append(envelope)

    @property
    def gaps(self) -> list[bool]:
        return [envelope.gap for envelope in self.envelopes]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


async def listening(bus: Bus) -> Bus:
    """Return once what the bus has subscribed to has reached the server."""
    await asyncio.wait_for(bus.connected.wait(), 20)
    assert bus._client is not None
    await bus._client.flush()
    return bus


async def caught_up(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 20)


# -- stream facts


async def test_stream_facts_arrive_in_order_with_who_sent_them(
    join: Join, inbox: Inbox, eventually: Any
) -> None:
    one, other = join("one"), join("other")
    other.listen(LoadReported, inbox.loads)
    await listening(other)
    for number in range(100):
        one.publish(load(number))
    await eventually(lambda: len(inbox.heard) == 100)

    assert inbox.heard == list(range(100))
    assert [e.sequence for e in inbox.envelopes] == list(range(1, 101))
    assert {e.source for e in inbox.envelopes} == {"one"}
    assert len({e.id for e in inbox.envelopes}) == 100
    assert not any(inbox.gaps)


async def test_fleets_on_one_bus_do_not_hear_each_other(
    join: Join, inbox: Inbox, eventually: Any
) -> None:
    north, south = join("a", fleet="north"), join("b", fleet="south")
    south.listen(LoadReported, inbox.loads)
    await listening(south)
    await listening(north)
    north.publish(load(1))
    await north.close()
    south.publish(load(2))
    await eventually(lambda: inbox.heard)
    assert inbox.heard == [2]


async def test_a_late_listener_hears_no_gap_in_what_came_before_it(
    join: Join, inbox: Inbox, eventually: Any
) -> None:
    bus = await listening(join("one"))
    bus.publish(load(1))
    await eventually(lambda: not bus._stream_out.waiting)
    bus.listen(LoadReported, inbox.loads)
    await listening(bus)
    bus.publish(load(2))
    await eventually(lambda: 2 in inbox.heard)
    assert not any(inbox.gaps)


async def test_facts_lost_to_a_full_outbox_are_a_gap_to_every_listener(
    join: Join, nats: NatsProcess, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "OUTBOX_FACTS", 4)
    bus, inboxes = join("one"), [Inbox(), Inbox()]
    for inbox in inboxes:
        bus.listen(LoadReported, inbox.loads)
    await listening(bus)
    bus.publish(load(0))
    await eventually(lambda: all(inbox.heard for inbox in inboxes))

    nats.kill()
    await eventually(lambda: not bus.connected.is_set())
    for number in range(1, 11):
        bus.publish(load(number))
    nats.start()
    await eventually(lambda: all(10 in inbox.heard for inbox in inboxes))

    for inbox in inboxes:
        assert inbox.heard == [0, 7, 8, 9, 10]
        assert inbox.gaps == [False, True, False, False, False]
    assert (bus.dropped, bus.gaps) == (6, 2)


async def test_a_restarted_source_is_no_gap(join: Join, inbox: Inbox, eventually: Any) -> None:
    listener, first = join("listener"), join("one")
    listener.listen(LoadReported, inbox.loads)
    await listening(listener)
    await listening(first)
    for number in (1, 2):
        first.publish(load(number))
    await first.close()
    join("one").publish(load(3))
    await eventually(lambda: 3 in inbox.heard)
    assert inbox.heard == [1, 2, 3]
    assert not any(inbox.gaps)


async def test_closing_sends_what_waits(join: Join, inbox: Inbox, eventually: Any) -> None:
    listener, leaver = join("listener"), join("leaver")
    listener.listen(LoadReported, inbox.loads)
    follows = listener.follow(InstanceReady, inbox.readiness, "listener")
    await listening(listener)
    await caught_up(follows)
    await listening(leaver)
    leaver.publish(load(1))
    leaver.publish(ready("leaver"))
    await leaver.close()
    await eventually(lambda: len(inbox.heard) == 2)


# -- control facts


async def test_who_joins_late_hears_the_last_fact_of_each_key(join: Join, inbox: Inbox) -> None:
    early = await listening(join("early"))
    for fact in (ready("a", "old"), ready("b"), ready("a", "new")):
        early.publish(fact)
    await early.close()
    await caught_up(join("late").follow(InstanceReady, inbox.readiness, "late"))
    assert sorted(inbox.heard) == ["a new", "b"]


async def test_a_follower_of_an_empty_log_is_caught_up_at_once(join: Join, inbox: Inbox) -> None:
    await caught_up(join("one").follow(InstanceReady, inbox.readiness, "one"))
    assert inbox.heard == []


async def test_a_control_fact_whose_acknowledgement_was_lost_is_heard_once(
    join: Join, inbox: Inbox, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, lost = JetStreamContext.publish, []

    async def publish_and_lose_one_reply(self: Any, *args: Any, **options: Any) -> Any:
        reply = await publish(self, *args, **options)
        if not lost:
            lost.append(reply)
            raise nats.errors.TimeoutError
        return reply

    monkeypatch.setattr(JetStreamContext, "publish", publish_and_lose_one_reply)
    bus = join("one")
    follows = bus.follow(InstanceReady, inbox.readiness, "one")
    await caught_up(follows)
    bus.publish(ready("a"))
    bus.publish(ready("b"))
    await eventually(lambda: "b" in inbox.heard)
    assert lost
    assert inbox.heard == ["a", "b"]


async def test_a_fact_delivered_again_by_the_server_is_not_heard_again(
    join: Join, inbox: Inbox, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged = []

    async def acknowledge_at_the_second_time(self: Msg) -> None:
        acknowledged.append(self.data)
        await (self.nak() if len(acknowledged) == 1 else acknowledge(self))

    acknowledge = Msg.ack
    monkeypatch.setattr(Msg, "ack", acknowledge_at_the_second_time)
    bus = join("one")
    await caught_up(bus.follow(InstanceReady, inbox.readiness, "one"))
    bus.publish(ready("a"))
    await eventually(lambda: len(acknowledged) == 2)
    assert inbox.heard == ["a"]


async def test_a_durable_follower_goes_on_where_it_stopped(
    join: Join, inbox: Inbox, eventually: Any
) -> None:
    source, first = await listening(join("source")), join("follower")
    await caught_up(first.follow(InstanceReady, inbox.readiness, "follower"))
    source.publish(ready("a", "1"))
    await eventually(lambda: inbox.heard)
    await first.close()

    for address in ("2", "3"):
        source.publish(ready("a", address))
    await eventually(lambda: not source._control_out.waiting)
    await caught_up(join("follower").follow(InstanceReady, inbox.readiness, "follower"))
    assert inbox.heard == ["a 1", "a 2", "a 3"]


async def test_followers_of_other_names_all_hear_the_same(join: Join, eventually: Any) -> None:
    inboxes = [Inbox() for _ in range(3)]
    buses = [join(f"bus-{number}") for number in range(3)]
    for bus, inbox in zip(buses, inboxes, strict=True):
        await caught_up(bus.follow(InstanceReady, inbox.readiness, bus.source))
    buses[0].publish(ready("a"))
    await eventually(lambda: all(inbox.heard == ["a"] for inbox in inboxes))


async def test_a_failing_listener_is_tried_again_and_holds_up_no_other_fact(
    join: Join, inbox: Inbox, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_log, "RETRY_S", 0.05)

    def fail_once(fact: InstanceReady, envelope: Envelope) -> None:
        inbox.readiness(fact, envelope)
        if inbox.heard.count("bad") == 1 and fact.instance_id == "bad":
            raise ValueError("not yet")

    bus = join("one")
    await caught_up(bus.follow(InstanceReady, fail_once, "one"))
    bus.publish(ready("bad"))
    bus.publish(ready("good"))
    await eventually(lambda: inbox.heard.count("bad") == 2 and "good" in inbox.heard)
    assert inbox.heard.count("good") == 1


async def test_a_fact_whose_handler_keeps_failing_is_not_dropped_and_keeps_its_follower_waiting(
    join: Join, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_log, "RETRY_S", 0.01)
    monkeypatch.setattr(control_log, "RETRY_MAX_S", 0.02)
    source = await listening(join("source"))
    source.publish(ready("bad"))
    source.publish(ready("good"))
    await eventually(lambda: not source._control_out.waiting)
    mended, tries, taken = False, 0, []

    def deliver(fact: InstanceReady, envelope: Envelope) -> None:
        nonlocal tries
        if fact.instance_id == "bad" and not mended:
            tries += 1
            raise ValueError("not yet")
        taken.append(fact.instance_id)

    bus = join("one")
    follows = bus.follow(InstanceReady, deliver, "one")
    await eventually(lambda: tries > 12 and taken == ["good"])
    assert not follows.is_set()
    (trouble,) = bus.troubles()
    assert trouble.startswith("control fact argosy.test.instance.ready.bad fails (")
    assert trouble.endswith("tries): ValueError: not yet")

    mended = True
    await caught_up(follows)
    assert (taken, bus.troubles()) == (["good", "bad"], [])


async def test_a_fact_that_cannot_be_read_is_set_aside_and_told(
    join: Join, inbox: Inbox, eventually: Any
) -> None:
    source, unread = await listening(join("source")), []
    source.publish(ready("a"))
    await eventually(lambda: not source._control_out.waiting)
    reply = await source._jetstream().publish("argosy.test.instance.ready.b", b"\xff\xff")

    bus = join("one")
    follows = bus.follow(
        InstanceReady, inbox.readiness, "one", on_unreadable=lambda e, why: unread.append(e)
    )
    await caught_up(follows)
    assert inbox.heard == ["a"]
    assert [envelope.log_sequence for envelope in unread] == [reply.seq]
    (trouble,) = bus.troubles()
    assert trouble.startswith("control fact argosy.test.instance.ready.b cannot be read")


async def test_names_with_dots_and_spaces_are_heard(join: Join, inbox: Inbox) -> None:
    name, fleet = "prefill-host.example.net x", "my.fleet"
    bus = await listening(join(name, fleet=fleet))
    bus.publish(ready(name))
    await bus.close()
    follower = join("router.host", fleet=fleet)
    await caught_up(follower.follow(InstanceReady, inbox.readiness, "router.host-1-ready"))
    assert inbox.heard == [name]


async def test_a_fact_too_large_for_the_bus_does_not_hold_up_the_rest(
    join: Join, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await listening(join("one"))
    bus.publish(FleetApplied(fleet_yaml="x" * (2 << 20)))
    bus.publish(ready("a"))
    await bus.close()
    await caught_up(join("late").follow(InstanceReady, inbox.readiness, "late"))
    assert inbox.heard == ["a"]
    assert "operator.fleet_applied" in caplog.text


# -- outages


async def test_without_a_bus_publishing_neither_waits_nor_fails_and_the_oldest_go(
    join: Join,
    nats: NatsProcess,
    inbox: Inbox,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outbox, "OUTBOX_FACTS", 3)
    nats.kill()
    bus = join("one")
    for number in range(8):
        bus.publish(load(number))
        bus.publish(ready(f"i-{number}"))
    assert bus.dropped == 10
    assert "outbox is full: lost argosy.test.instance.ready.i-0" in caplog.text

    nats.start()
    bus.follow(InstanceReady, inbox.readiness, "one")
    await eventually(lambda: inbox.heard == ["i-5", "i-6", "i-7"])


async def test_facts_of_both_planes_flow_again_when_a_killed_bus_is_back(
    join: Join, nats: NatsProcess, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_log, "FETCH_S", 0.5)
    bus, loads, readiness = join("one"), Inbox(), Inbox()
    bus.listen(LoadReported, loads.loads)
    await caught_up(bus.follow(InstanceReady, readiness.readiness, "one"))
    bus.publish(ready("before"))
    await eventually(lambda: readiness.heard)

    nats.kill()
    await eventually(lambda: not bus.connected.is_set())
    for number in range(5):
        bus.publish(load(number))
        bus.publish(ready(f"i-{number}"))
    nats.start()
    await eventually(lambda: len(loads.heard) == 5 and len(readiness.heard) == 6)
    assert loads.heard == list(range(5))
    assert readiness.heard == ["before", *(f"i-{number}" for number in range(5))]


async def test_connections_lost_and_made_are_told(
    join: Join, nats: NatsProcess, eventually: Any
) -> None:
    told: list[bool] = []
    bus = join("one")
    bus.on_connection.append(told.append)
    await listening(bus)
    nats.kill()
    await eventually(lambda: told == [True, False])
    nats.start()
    await eventually(lambda: told == [True, False, True])


async def test_facts_flow_again_when_the_bus_comes_back_without_its_store(
    join: Join, nats: NatsProcess, inbox: Inbox, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_log, "FETCH_S", 0.5)
    bus = join("one")
    await caught_up(bus.follow(InstanceReady, inbox.readiness, "one"))
    bus.publish(ready("a"))
    await eventually(lambda: inbox.heard == ["a"])

    nats.kill()
    shutil.rmtree(nats.store)
    await eventually(lambda: not bus.connected.is_set())
    bus.publish(ready("b"))
    nats.start()
    await eventually(lambda: inbox.heard == ["a", "b"])


async def test_what_is_listened_to_during_an_outage_is_heard_after_it(
    join: Join, nats: NatsProcess, eventually: Any
) -> None:
    bus, loads, readiness = await listening(join("one")), Inbox(), Inbox()
    nats.kill()
    await eventually(lambda: not bus.connected.is_set())
    bus.listen(LoadReported, loads.loads)
    follows = bus.follow(InstanceReady, readiness.readiness, "one")
    nats.start()
    await caught_up(follows)
    bus.publish(ready("a"))
    bus.publish(load(1))
    await eventually(lambda: readiness.heard == ["a"] and loads.heard == [1])


async def test_a_bus_without_its_log_is_joined_once_it_has_one(
    join: Join, nats: NatsProcess, inbox: Inbox, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nats.kill()
    without_log = nats_command(nats.port, nats.store)[:-3]
    plain = await asyncio.create_subprocess_exec(*without_log, stderr=subprocess.DEVNULL)
    bus = join("one")
    await eventually(lambda: "has no control log" in caplog.text)
    assert not bus.connected.is_set()
    plain.kill()
    await plain.wait()
    nats.start()
    await caught_up(bus.follow(InstanceReady, inbox.readiness, "one"))
    bus.publish(ready("a"))
    await eventually(lambda: inbox.heard == ["a"])


async def test_a_bus_that_never_came_can_be_left() -> None:
    bus = Bus("nats://127.0.0.1:1", "test", "one")
    bus.start()
    bus.publish(InstanceStopped(instance_id="a"))
    await asyncio.wait_for(bus.close(), 20)
