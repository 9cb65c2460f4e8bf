"""vLLM's NIXL connector, with three things it lacks. Imported inside vLLM's own processes.

- `release`: let go of KV held for a puller that will not come. vLLM itself waits for
  the lease to run out.
- On CPU, the engine stays on its own cores.
- On CPU, NIXL's progress thread sleeps between polls. NIXL's Python API asks for no
  delay at all, which spins a core per engine: on one core per engine, decode steps
  take twice as long. See docs/adr/0004.
"""

import ctypes
import os
import signal
from typing import Any

from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector

from argosy.engine.vllm.connector_names import POLL_US_VARIABLE
from argosy.engine.vllm.store_connector import ArgosyStoreConnector
from argosy.mesh.nixl_polling import slow_down_polling

PR_SET_PDEATHSIG = 1


if poll_us := int(os.environ.get(POLL_US_VARIABLE, "0")):
    slow_down_polling(poll_us)


class ArgosyNixlConnector(NixlPullConnector):  # type: ignore[misc]
    """NixlPullConnector that can let go, and leaves the model on the cores it was given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # On CPU vLLM's own moves the thread that makes it to the node's last core: here
        # that is the thread the model runs in, so all engines would share one core.
        cores = os.sched_getaffinity(0)
        super().__init__(*args, **kwargs)
        os.sched_setaffinity(0, cores)

    def release(self, request_ids: list[str]) -> int:
        """End the leases of these requests; the next engine step frees their blocks."""
        leases = self.connector_worker._reqs_to_send  # noqa: SLF001 - vLLM offers no other way
        held = [request_id for request_id in request_ids if request_id in leases]
        for request_id in held:
            leases[request_id] = 0.0
        return len(held)


class WorkerExtension:
    """Methods vLLM adds to its worker, for AsyncLLM.collective_rpc."""

    def argosy_release(self, request_ids: list[str]) -> int:
        """See ArgosyNixlConnector.release."""
        connector = of_kind(ArgosyNixlConnector)
        return int(connector.release(request_ids))

    def argosy_staging(self) -> tuple[int, int, int, str]:
        """Of the staging memory: bytes of a slot, slots for loads, slots in all; its layout."""
        connector = of_kind(ArgosyStoreConnector)
        return connector.slot_bytes, connector.load_slots, connector.slots, connector.layout

    def argosy_die_with_parent(self) -> None:
        """End this process when the one that started it is gone, however it went."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def of_kind(kind: type) -> Any:
    """The worker's connector of that kind, alone or one of several."""
    group = get_kv_transfer_group()
    several = group.sub_connectors if isinstance(group, MultiConnector) else [group]
    return next(connector for connector in several if isinstance(connector, kind))
