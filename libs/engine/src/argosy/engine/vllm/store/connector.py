"""vLLM's connector to the staging memory, in which KV waits for the store or comes from it.

Imported inside vLLM's own processes. vLLM's MultiConnector joins it with the NIXL one.
Bytes and directory are the service's affair (engine.store): here blocks are only copied.
"""

from typing import TYPE_CHECKING, Any

import msgspec
import torch
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from argosy.engine.vllm.names import STORE_SETTINGS
from argosy.engine.vllm.store.scheduler import StoreScheduler
from argosy.engine.vllm.store.service_messages import StoreSettings
from argosy.engine.vllm.store.worker import StoreWorker
from argosy.engine.vllm.store.worker_messages import (
    StoreDone,
    StoreMetadata,
    layout_of,
    shard_bytes,
)

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


class ArgosyStoreConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """See the module."""

    def __init__(
        self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig"
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        if len(kv_cache_config.kv_cache_groups) != 1:
            raise ValueError("the KV store serves models with one kind of attention only")
        extra = self._kv_transfer_config.kv_connector_extra_config
        settings = msgspec.convert(extra[STORE_SETTINGS], StoreSettings)
        self._num_blocks = kv_cache_config.num_blocks
        self.slot_bytes = shard_bytes(kv_cache_config) * settings.workers
        self.slots = max(2, settings.staging_bytes // self.slot_bytes)
        self.load_slots = self.slots // 2
        self.layout = layout_of(kv_cache_config)
        if role == KVConnectorRole.SCHEDULER:
            self._scheduler = StoreScheduler(settings, self.load_slots, self.slots, self.layout)
        else:
            self._worker = StoreWorker(
                settings.staging_path,
                self.slot_bytes,
                self.slots,
                get_tensor_model_parallel_rank(),
                settings.workers,
            )
            self._freed: set[str] = set()
            self._saved: list[int] = []

    @property
    def requires_kv_delivery(self) -> bool:
        """A block that is not stored is a miss, later."""
        return False

    # In the worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Learn where the pages are."""
        self._worker.register(kv_caches, self._num_blocks)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Take in what was preloaded."""
        for request_id, copy in self._metadata().loads.items():
            self._worker.load(request_id, copy)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are over before their requests are scheduled."""

    def save_kv_layer(self, *args: Any, **kwargs: Any) -> None:
        """Whole blocks are copied, after the step."""

    def wait_for_save(self) -> None:
        """Copy out what the step completed."""
        metadata = self._metadata()
        for copy in metadata.saves:
            self._worker.save(copy)
        self._freed |= metadata.freed

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Requests whose blocks may be freed, and whose preload is in."""
        loaded, self._saved = self._worker.done()
        freed, self._freed = self._freed, set()
        return freed or None, loaded or None

    def build_connector_worker_meta(self) -> StoreDone | None:
        """Saves that are done."""
        return StoreDone(dict.fromkeys(self._saved, 1)) if self._saved else None

    def _metadata(self) -> StoreMetadata:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StoreMetadata)
        return metadata

    # In the scheduler

    def bind_kv_cache_manager(self, kv_cache_manager: "KVCacheManager") -> None:
        """Where requests' blocks are looked up."""
        super().bind_kv_cache_manager(kv_cache_manager)
        self._scheduler.bind(kv_cache_manager)

    def on_new_request(self, request: "Request") -> None:
        """From now on what is computed for it is copied out."""
        self._scheduler.track(request)

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int, bool]:
        """What was preloaded beyond what is here."""
        tokens = self._scheduler.matched_tokens(request, num_computed_tokens)
        return tokens, tokens > 0

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        """The request has its blocks."""
        self._scheduler.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        """What to copy in this step."""
        return self._scheduler.build(scheduler_output)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        """What was copied."""
        self._scheduler.output(connector_output)

    def request_finished(
        self, request: "Request", block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Keep the blocks until all that is copied out is."""
        return self._scheduler.finished(request, block_ids), None

    def shutdown(self) -> None:
        """Let go of the sockets."""
        if self.role == KVConnectorRole.SCHEDULER:
            self._scheduler.close()
