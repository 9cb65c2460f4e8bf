"""A hundred idle instances in one process: only the facts that the router gets from them.

    python -m argosy.bench.router.idle_instances NATS_URL FLEET COUNT

Each joins as an instance does and publishes its load every HEARTBEAT_S over its own bus
connection. The process prints `joined` once all have joined. The router sends them nothing,
because no caller asks for their model.
"""

import asyncio
import sys
import time

from argosy.mesh.bus import Bus
from argosy.wire.decode.v1 import events_pb2 as decode_pb2
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_pb2

HEARTBEAT_S = 0.5
MODEL = "idle"
EPOCH = "idle"
KV_BLOCKS = 10_000


class IdleInstance:
    """An instance that serves a model nobody asks for."""

    def __init__(self, url: str, fleet: str, number: int) -> None:
        self._prefill = number % 2 == 0
        self._name = f"{'prefill' if self._prefill else 'decode'}-idle-{number}"
        self._bus = Bus(url, fleet, self._name)
        self._bus.start()

    async def join(self) -> None:
        """Announce the instance."""
        await self._bus.connected.wait()
        role = instance_pb2.ROLE_PREFILL if self._prefill else instance_pb2.ROLE_DECODE
        self._bus.publish(
            instance_pb2.InstanceReady(
                instance_id=self._name,
                epoch=EPOCH,
                role=role,
                address="127.0.0.1:1",
                node="bench",
                model=MODEL,
                block_tokens=32,
                kv_total_blocks=KV_BLOCKS,
                max_model_tokens=8192,
                max_running_requests=16,
            )
        )

    async def beat(self, after_s: float) -> None:
        """Publish the load for ever, for the first time after `after_s`."""
        await asyncio.sleep(after_s)
        fact = (prefill_pb2 if self._prefill else decode_pb2).LoadReported
        while True:
            load = inference_pb2.Load(
                instance_id=self._name,
                epoch=EPOCH,
                kv_total_blocks=KV_BLOCKS,
                at_us=time.time_ns() // 1000,
            )
            self._bus.publish(fact(load=load))
            await asyncio.sleep(HEARTBEAT_S)


async def run_idle_instances(url: str, fleet: str, count: int) -> None:
    """Let `count` instances join, with heartbeats spread evenly, and run until killed."""
    instances = [IdleInstance(url, fleet, number) for number in range(count)]
    await asyncio.gather(*(instance.join() for instance in instances))
    print("joined", flush=True)
    spread_s = HEARTBEAT_S / count
    await asyncio.gather(*(instance.beat(n * spread_s) for n, instance in enumerate(instances)))


if __name__ == "__main__":
    asyncio.run(run_idle_instances(sys.argv[1], sys.argv[2], int(sys.argv[3])))
