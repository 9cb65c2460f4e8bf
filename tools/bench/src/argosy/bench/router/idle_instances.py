"""A hundred instances that do nothing, in one process: only what the router hears of them.

    python -m argosy.bench.router.idle_instances NATS_URL FLEET COUNT

Each joins as an instance does and publishes its load every HEARTBEAT_S over a bus
connection of its own. Prints `joined` once all have. The router is never sent to them:
they serve a model that nobody asks for.
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
    """One instance with nothing to do."""

    def __init__(self, url: str, fleet: str, number: int) -> None:
        self._prefill = number % 2 == 0
        self._name = f"{'prefill' if self._prefill else 'decode'}-idle-{number}"
        self._bus = Bus(url, fleet, self._name)
        self._bus.start()

    async def join(self) -> None:
        """Say that it is there."""
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
        """Report for ever, the first time after `after_s`."""
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


async def gather_crowd(url: str, fleet: str, count: int) -> None:
    """Let them join, spread their heartbeats evenly, and go on until killed."""
    idlers = [IdleInstance(url, fleet, number) for number in range(count)]
    await asyncio.gather(*(idler.join() for idler in idlers))
    print("joined", flush=True)
    spread_s = HEARTBEAT_S / count
    await asyncio.gather(*(idler.beat(n * spread_s) for n, idler in enumerate(idlers)))


if __name__ == "__main__":
    asyncio.run(gather_crowd(sys.argv[1], sys.argv[2], int(sys.argv[3])))
