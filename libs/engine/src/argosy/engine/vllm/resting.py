"""A worker's sleep where vLLM has none: on CPU. Imported inside vLLM's own processes.

Freed at either level: KV pages, and what the allocator keeps. At level "disk" weights go
too, those that oneDNN has repacked with the objects that hold them, and are loaded again
from the model's files. Addresses of KV pages and of weights do not change.

What stays: weights smaller than a page, buffers (they are in no file), and code. Weights
that a quantization has repacked stay as well, unless vLLM makes them with `cpu_linear`.
"""

from typing import TYPE_CHECKING

import torch
from vllm.config import set_current_vllm_config
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.meta import materialize_layer, restore_layer_on_meta

from argosy.engine.api import SleepLevel
from argosy.engine.vllm.memory import drop_pages, trim_heap

if TYPE_CHECKING:
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    Worker = object

REPACKED = "cpu_linear"
"""Attribute of a layer: the function that multiplies, and holds the repacked weight."""


class Resting(Worker):  # type: ignore[misc]
    """Methods of the worker extension."""

    def argosy_drop_duplicates(self) -> None:
        """Free repacked weights that nothing multiplies with.

        vLLM repacks input embeddings as if they were output layers. Where one is, it
        still works, with the weight as it is.
        """
        model = self.model_runner.get_model()
        if not any(isinstance(layer, ParallelLMHead) for layer in model.modules()):
            return
        for layer in model.modules():
            embedding = isinstance(layer, VocabParallelEmbedding)
            if embedding and not isinstance(layer, ParallelLMHead) and hasattr(layer, REPACKED):
                setattr(layer, REPACKED, torch.nn.functional.linear)

    def argosy_sleep(self, level: SleepLevel) -> int:
        """Free what this level frees. Returns how many bytes of pages and plain weights."""
        freed = drop(list(self.model_runner.kv_caches))
        self.argosy_repacked: list[torch.nn.Module] = []
        if level == "disk":
            model = self.model_runner.get_model()
            self.argosy_repacked = [layer for layer in model.modules() if repacked(layer)]
            for layer in self.argosy_repacked:
                delattr(layer, REPACKED)
            freed += drop(list(model.parameters()))
            self.argosy_weights_gone = True
        trim_heap()
        return freed

    def argosy_wake(self) -> None:
        """Load what `argosy_sleep` freed.

        vLLM's `reload_weights` would do it, in thrice the time: it goes through each weight
        twice, and makes a second copy of those that were not repacked.
        """
        if not getattr(self, "argosy_weights_gone", False):
            return
        model = self.model_runner.get_model()
        import time, os, resource
        def stamp(what, t=[time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)]):
            n=[time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)]
            print("STAMP", what, f"wall {n[0]-t[0]:.3f} user {n[1].ru_utime-t[1].ru_utime:.3f} sys {n[1].ru_stime-t[1].ru_stime:.3f} minflt {n[1].ru_minflt-t[1].ru_minflt} majflt {n[1].ru_majflt-t[1].ru_majflt} csw {n[1].ru_nivcsw-t[1].ru_nivcsw}", flush=True)
            t[:]=n
        with set_current_vllm_config(self.vllm_config), torch.no_grad():
            for layer in self.argosy_repacked:
                if not layer.weight.numel():
                    restore(layer)
            stamp("restore")
            loader = get_model_loader(self.load_config)
            model.load_weights(loader.get_all_weights(self.model_config, model))
            stamp("load")
            for layer in self.argosy_repacked:
                layer.quant_method.process_weights_after_loading(layer)
        self.argosy_repacked = []
        self.argosy_weights_gone = False
        stamp("pack")
        trim_heap()
        stamp("trim")


def repacked(layer: torch.nn.Module) -> bool:
    """Whether this layer multiplies with a repacked weight."""
    return vars(layer).get(REPACKED, torch.nn.functional.linear) is not torch.nn.functional.linear


def restore(layer: torch.nn.Module) -> None:
    """Make the layer as it was before its weight was loaded."""
    info = get_layerwise_info(layer)
    restore_layer_on_meta(layer, info)
    materialize_layer(layer, info)


def drop(tensors: list[torch.Tensor]) -> int:
    """Empty the memory of these tensors, some of which may share it; how many bytes."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}
    return sum(
        drop_pages(address, tensor.untyped_storage().nbytes())
        for address, tensor in storages.items()
    )
