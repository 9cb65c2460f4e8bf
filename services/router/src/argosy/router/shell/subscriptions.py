"""Subscribes to facts on the bus, and feeds them to the core as events."""

import asyncio
from math import inf

from argosy.domain.demand import Slo
from argosy.mesh.bus import Envelope
from argosy.mesh.driver import Driver
from argosy.mesh.instance_facts import state_name, timing_of
from argosy.mesh.service import Mesh
from argosy.router.core import events
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.wire.decode.v1 import events_pb2 as decode_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.kvstore.v1 import events_pb2 as kvstore_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.operator.v1 import events_pb2 as operator_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_pb2
from argosy.wire.router.v1 import events_pb2 as router_pb2

LifecycleChange = (
    instance_pb2.InstanceDraining
    | instance_pb2.InstanceSlept
    | instance_pb2.InstanceWaking
    | instance_pb2.InstanceWoke
)
ROLES = {instance_pb2.ROLE_PREFILL: "prefill", instance_pb2.ROLE_DECODE: "decode"}


class RouterSubscriptions:
    """Subscribes to load, idle predictions and instances' lives."""

    def __init__(self, mesh: Mesh[RouterSettings], driver: Driver, relay: Relay) -> None:
        self._mesh = mesh
        self._driver = driver
        self._relay = relay

    async def start(self) -> None:
        """Return when what the control log holds has reached the core."""
        bus = self._mesh.bus
        self._bus_changed(bus.connected.is_set())
        bus.on_connection.append(self._bus_changed)
        bus.listen(prefill_pb2.LoadReported, self._on_load)
        bus.listen(decode_pb2.LoadReported, self._on_load)
        bus.listen(prefill_pb2.IdlePredicted, self._on_idle)
        bus.listen(prefill_pb2.KvChanged, self._on_kv)
        bus.listen(decode_pb2.KvChanged, self._on_kv)
        bus.listen(kvstore_pb2.StoreReported, self._on_store)
        bus.listen(kvstore_pb2.KvStored, self._on_stored)
        bus.listen(kvstore_pb2.KvEvicted, self._on_evicted)
        bus.listen(router_pb2.QueueReported, self._on_queue)
        bus.listen(router_pb2.RequestsDispatched, self._on_peer_router)
        durable = f"{self._mesh.name}-{self._mesh.epoch}"
        caught_up = [
            bus.follow(instance_pb2.InstanceReady, self._on_ready, f"{durable}-ready"),
            bus.follow(instance_pb2.InstanceDraining, self._on_change, f"{durable}-draining"),
            bus.follow(instance_pb2.InstanceSlept, self._on_change, f"{durable}-slept"),
            bus.follow(instance_pb2.InstanceWaking, self._on_change, f"{durable}-waking"),
            bus.follow(instance_pb2.InstanceWoke, self._on_change, f"{durable}-woke"),
            bus.follow(instance_pb2.InstanceStopped, self._on_stopped, f"{durable}-stopped"),
            bus.follow(node_pb2.InstanceExited, self._on_exited, f"{durable}-exited"),
            bus.follow(operator_pb2.FleetApplied, self._on_fleet, f"{durable}-fleet"),
        ]
        await asyncio.gather(*(event.wait() for event in caught_up))

    def _bus_changed(self, connected: bool) -> None:
        self._driver.feed(events.BusChanged(now_us=self._driver.now_us(), connected=connected))

    def _on_fleet(self, fact: operator_pb2.FleetApplied, envelope: Envelope) -> None:
        self._driver.feed(objectives_of(fact, self._driver.now_us()))

    def _on_load(
        self, fact: prefill_pb2.LoadReported | decode_pb2.LoadReported, envelope: Envelope
    ) -> None:
        self._relay.load_reported(fact.load)

    def _on_idle(self, fact: prefill_pb2.IdlePredicted, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        event = events.IdlePredicted(
            now_us=now_us, instance=fact.instance_id, epoch=fact.epoch, idle_at_us=fact.idle_at_us
        )
        self._driver.feed(event)

    def _on_kv(
        self, fact: prefill_pb2.KvChanged | decode_pb2.KvChanged, envelope: Envelope
    ) -> None:
        change = fact.change
        self._driver.feed(
            events.KvChanged(
                now_us=self._driver.now_us(),
                instance=change.instance_id,
                epoch=change.epoch,
                sequence=change.change_sequence,
                stored=list(change.stored),
                removed=list(change.removed),
                cleared=change.cleared,
                dp_rank=change.dp_rank,
            )
        )

    def _on_store(self, fact: kvstore_pb2.StoreReported, envelope: Envelope) -> None:
        tiers = [(tier.fetch_ms, tier.fetch_gb_per_s) for tier in fact.tiers]
        now_us = self._driver.now_us()
        self._driver.feed(
            events.StoreSeen(
                now_us=now_us,
                store=fact.store_id,
                epoch=fact.epoch,
                address=fact.address,
                tiers=tiers,
            )
        )

    def _on_stored(self, fact: kvstore_pb2.KvStored, envelope: Envelope) -> None:
        self._store_changed(fact, list(fact.blocks), [])

    def _on_evicted(self, fact: kvstore_pb2.KvEvicted, envelope: Envelope) -> None:
        self._store_changed(fact, [], list(fact.blocks))

    def _store_changed(
        self,
        fact: kvstore_pb2.KvStored | kvstore_pb2.KvEvicted,
        stored: list[int],
        removed: list[int],
    ) -> None:
        self._driver.feed(
            events.KvChanged(
                now_us=self._driver.now_us(),
                instance=fact.store_id,
                epoch=fact.epoch,
                sequence=fact.change_sequence,
                stored=stored,
                removed=removed,
                dp_rank=fact.tier,
            )
        )

    def _on_queue(self, fact: router_pb2.QueueReported, envelope: Envelope) -> None:
        if fact.router != self._mesh.name:
            self._driver.feed(
                events.PeerRouterSeen(now_us=self._driver.now_us(), router=fact.router)
            )

    def _on_peer_router(self, fact: router_pb2.RequestsDispatched, envelope: Envelope) -> None:
        if fact.router == self._mesh.name:
            return
        for sent in fact.dispatched:
            self._driver.feed(
                events.PeerRouterDispatched(
                    now_us=self._driver.now_us(),
                    router=fact.router,
                    request_id=sent.request_id,
                    prefill=sent.prefill,
                    prefill_rank=sent.prefill_dp_rank,
                    decode=sent.decode,
                    decode_rank=sent.decode_dp_rank,
                    prompt_tokens=sent.prompt_tokens,
                    uncached_tokens=sent.uncached_tokens,
                    blocks=list(sent.blocks),
                )
            )
        if fact.ended:
            self._driver.feed(
                events.PeerRouterEnded(
                    now_us=self._driver.now_us(), router=fact.router, request_ids=list(fact.ended)
                )
            )

    def _on_ready(self, fact: instance_pb2.InstanceReady, envelope: Envelope) -> None:
        if fact.role not in ROLES:
            return
        self._driver.feed(
            events.InstanceJoined(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                epoch=fact.epoch,
                role=ROLES[fact.role],
                address=fact.address,
                node=fact.node,
                model=fact.model,
                kv_total_blocks=fact.kv_total_blocks,
                block_tokens=fact.block_tokens,
                max_model_tokens=fact.max_model_tokens,
                max_running_requests=fact.max_running_requests,
                requests_max=fact.requests_max,
                announced_us=envelope.time_ms * 1000,
                dp_ranks=max(1, fact.dp_ranks),
                tokens_per_step=fact.tokens_per_step or 8192,
                rack=fact.rack,
                timing=timing_of(fact),
                change=fact.change.number,
                # One that sleeps describes itself anew too, when the bus has been away.
                state=state_name(fact.change) if fact.HasField("change") else "active",
            )
        )

    def _on_change(self, fact: LifecycleChange, envelope: Envelope) -> None:
        change = fact.change
        self._driver.feed(
            events.InstanceLifecycleChanged(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                epoch=fact.epoch,
                change=change.number,
                state=state_name(change),
                cause=change.cause,
                at_us=envelope.time_ms * 1000,
            )
        )

    def _on_stopped(self, fact: instance_pb2.InstanceStopped, envelope: Envelope) -> None:
        self._left(fact.instance_id, fact.epoch, "stopped", envelope)

    def _on_exited(self, fact: node_pb2.InstanceExited, envelope: Envelope) -> None:
        reason = f"its process exited with {fact.exit_code}"
        self._left(fact.instance_id, fact.epoch, reason, envelope)

    def _left(self, instance: str, epoch: str, reason: str, envelope: Envelope) -> None:
        self._driver.feed(
            events.InstanceLeft(
                now_us=self._driver.now_us(),
                instance=instance,
                epoch=epoch,
                reason=reason,
                at_us=envelope.time_ms * 1000,
            )
        )


def objectives_of(fact: operator_pb2.FleetApplied, now_us: int) -> events.ObjectivesChanged:
    """The objectives of a fleet. What the fact does not say, or cannot be, is the default."""
    usual = Slo()
    told = Slo(ttft_ms=fact.scaling.ttft_ms, tpot_ms=fact.scaling.tpot_ms)
    slo = Slo(
        ttft_ms=told.ttft_ms if 0 < told.ttft_ms < inf else usual.ttft_ms,
        tpot_ms=told.tpot_ms if 0 < told.tpot_ms < inf else usual.tpot_ms,
    )
    return events.ObjectivesChanged(now_us=now_us, generation=fact.generation, slo=slo)
