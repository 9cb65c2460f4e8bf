"""vLLM's NIXL connector, with four things it lacks. Imported inside vLLM's own processes.

- `release`: let go of KV held for a puller that will not come. vLLM itself waits for
  the lease to run out.
- `withdraw` and `register_again`: its KV memory can go, and come back.
- On CPU, the engine stays on its own cores.
- On CPU, NIXL's progress thread sleeps between polls. NIXL's Python API asks for no
  delay at all, which spins a core per engine: on one core per engine, decode steps
  take twice as long. See docs/adr/0004.
"""

import ctypes
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from vllm.config import set_current_vllm_config
from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorWorkerMetadata,
)
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.worker import NixlPullConnectorWorker

from argosy.engine.vllm.names import POLL_US_VARIABLE
from argosy.engine.vllm.sleep.cpu_worker import CpuSleepWorker
from argosy.engine.vllm.store.connector import ArgosyStoreConnector
from argosy.transfer.progress_polling import slow_down_polling

if TYPE_CHECKING:
    from vllm.v1.outputs import KVConnectorOutput

PR_SET_PDEATHSIG = 1


if poll_us := int(os.environ.get(POLL_US_VARIABLE, "0")):
    slow_down_polling(poll_us)


Agents = dict[tuple[int, int], KVConnectorHandshakeMetadata]
"""By pipeline and tensor rank: what a peer must know to pull from that worker."""


@dataclass
class Registered(KVConnectorWorkerMetadata):  # type: ignore[misc]
    """From the workers: who they are since they have registered again."""

    engine_id: str
    agents: Agents

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "Registered":
        """Of two workers."""
        assert isinstance(other, Registered)
        return Registered(self.engine_id, {**self.agents, **other.agents})


class ArgosyNixlConnector(NixlPullConnector):  # type: ignore[misc]
    """NixlPullConnector that can let go, and leaves the model on the cores it was given.

    What peers know of registered memory is worthless once it is registered anew, and
    vLLM asks an engine it knows only once. So an engine that registers again does it
    as another one, with another NIXL agent, at the same address: vLLM's connectors then
    forget the one they knew there.
    """

    connector_worker: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # On CPU vLLM's own moves the thread that makes it to the node's last core: here
        # that is the thread the model runs in, so all engines would share one core.
        cores = os.sched_getaffinity(0)
        super().__init__(*args, **kwargs)
        os.sched_setaffinity(0, cores)
        self._pages: dict[str, torch.Tensor] = {}
        self._registered: Registered | None = None
        self._answers: dict[tuple[int, int], bytes] = {}

    # In the worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Register, and remember what."""
        self._pages = kv_caches
        super().register_kv_caches(kv_caches)

    def withdraw(self) -> None:
        """Deregister, and forget all peers."""
        self.connector_worker.shutdown()

    def register_again(self, engine_id: str) -> None:
        """Register the same memory, as this engine. `announce` is to follow."""
        cores = os.sched_getaffinity(0)
        self.connector_worker = None
        with set_current_vllm_config(self._vllm_config):
            self.connector_worker = NixlPullConnectorWorker(
                self._vllm_config, engine_id, self.kv_cache_config
            )
            self.connector_worker.register_kv_caches(self._pages)
        os.sched_setaffinity(0, cores)

    def announce(self, agents: Agents) -> None:
        """Tell the scheduler, with the next step, who this worker is now."""
        self._registered = Registered(self.connector_worker.engine_id, agents)

    def build_connector_worker_meta(self) -> Registered | None:
        """Once after `announce`."""
        registered, self._registered = self._registered, None
        return registered

    def release(self, request_ids: list[str]) -> int:
        """End the leases of these requests; the next engine step frees their blocks."""
        leases = self.connector_worker._reqs_to_send  # noqa: SLF001 - vLLM offers no other way
        held = [request_id for request_id in request_ids if request_id in leases]
        for request_id in held:
            leases[request_id] = 0.0
        return len(held)

    def release_all(self) -> int:
        """End every lease: of a request that was cut as it ended, nobody knows the handle."""
        return self.release(list(self.connector_worker._reqs_to_send))  # noqa: SLF001

    # In the scheduler

    def set_xfer_handshake_metadata_pp_aware(self, metadata: Agents) -> None:
        """Answer peers' handshakes with this, and keep hold of what is answered."""
        scheduler = self.connector_scheduler
        listen = scheduler._nixl_handshake_listener  # noqa: SLF001 - vLLM offers no other way

        def listener(answers: dict[tuple[int, int], bytes], *rest: Any) -> None:
            self._answers = answers
            listen(answers, *rest)

        scheduler._nixl_handshake_listener = listener  # noqa: SLF001
        super().set_xfer_handshake_metadata_pp_aware(metadata)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        """From now on hand over as who the workers say they are."""
        told = connector_output.kv_connector_worker_meta
        if isinstance(told, Registered):
            self.connector_scheduler.engine_id = told.engine_id
            for ranks, agent in told.agents.items():
                self._answers[ranks] = msgspec.msgpack.encode(agent)
        super().update_connector_output(connector_output)


class WorkerExtension(CpuSleepWorker):
    """Methods vLLM adds to its worker, for AsyncLLM.collective_rpc."""

    def argosy_release(self, request_ids: list[str]) -> int:
        """See ArgosyNixlConnector.release."""
        connector = of_kind(ArgosyNixlConnector)
        return int(connector.release(request_ids))

    def argosy_release_all(self) -> int:
        """See ArgosyNixlConnector.release_all."""
        return int(of_kind(ArgosyNixlConnector).release_all())

    def argosy_withdraw(self) -> None:
        """See ArgosyNixlConnector.withdraw."""
        of_kind(ArgosyNixlConnector).withdraw()

    def argosy_register(self, engine_id: str) -> None:
        """See ArgosyNixlConnector.register_again. One step must follow before a handoff."""
        connector = of_kind(ArgosyNixlConnector)
        connector.register_again(engine_id)
        connector.announce(self.get_kv_connector_handshake_metadata())

    def argosy_staging(self) -> tuple[int, int, int, str]:
        """Of the staging memory: bytes of a slot, slots for loads, slots in all; its layout."""
        connector = of_kind(ArgosyStoreConnector)
        return connector.slot_bytes, connector.load_slots, connector.slots, connector.layout

    def argosy_die_with_parent(self) -> None:
        """End this process when the one that started it is gone, however it went."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def of_kind(kind: type) -> Any:
    """The worker's connector of that kind, alone or one of several. There must be one."""
    group = get_kv_transfer_group() if has_kv_transfer_group() else None
    several = group.sub_connectors if isinstance(group, MultiConnector) else [group]
    found = next((connector for connector in several if isinstance(connector, kind)), None)
    if found is None:
        raise LookupError(f"this engine has no {kind.__name__}")
    return found
