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

import nixl._api as nixl_api
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector

from argosy.engine.vllm.connector_names import POLL_US_VARIABLE

PR_SET_PDEATHSIG = 1


def slow_down_polling(poll_us: int) -> None:
    """Make every NIXL agent created from now on poll each `poll_us`."""
    bindings = nixl_api.nixlBind

    class Config(bindings.nixlAgentConfig):  # type: ignore[misc,name-defined]
        """NIXL's own configuration with the delay we want."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, poll_us if name == "pthrDelay" else value)

    class Bindings:
        """NIXL's bindings, but for the configuration."""

        nixlAgentConfig = Config  # noqa: N815 - NIXL's name

        def __getattr__(self, name: str) -> Any:
            return getattr(bindings, name)

    nixl_api.nixlBind = Bindings()


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
        connector = get_kv_transfer_group()
        assert isinstance(connector, ArgosyNixlConnector)
        return connector.release(request_ids)

    def argosy_die_with_parent(self) -> None:
        """End this process when the one that started it is gone, however it went."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
