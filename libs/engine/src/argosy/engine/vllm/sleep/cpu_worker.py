"""A worker's sleep where vLLM has none: on CPU. Imported inside vLLM's own processes.

Freed at either level: KV pages, and what the allocator keeps. At level "disk" weights go
too, those that oneDNN has repacked with the objects that hold them, and are loaded again
from the model's files. Addresses of KV pages and of weights do not change.

What stays: weights smaller than a page, buffers (they are in no file), code, and what
Python has imported. Weights of a quantization that keeps them in objects of its own stay
as well, until `wake` makes these anew.
"""

import logging
from typing import TYPE_CHECKING

import torch
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)

from argosy.engine.api import SleepLevel
from argosy.engine.memory import drop_pages, trim_heap

if TYPE_CHECKING:
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    Worker = object  # vLLM mixes this class into its worker's.

REPACKED = "cpu_linear"
"""Attribute of a layer: the function that multiplies, and holds the repacked weight."""

# It warns of layers that the model's files have no weight for. Of a weight that is missing
# there `reload_weights` warns itself.
logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)


class CpuSleepWorker(Worker):  # type: ignore[misc]
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

    def argosy_sleep(self, level: SleepLevel) -> None:
        """Free what this level frees."""
        drop(list(self.model_runner.kv_caches))
        self.argosy_weights_gone = level == "disk"
        self.argosy_repacked: list[torch.nn.Module] = []
        if self.argosy_weights_gone:
            model = self.model_runner.get_model()
            self.argosy_repacked = [layer for layer in model.modules() if repacked(layer)]
            for layer in self.argosy_repacked:
                delattr(layer, REPACKED)
            drop(list(model.parameters()))
        trim_heap()

    def argosy_wake(self) -> None:
        """Load what `argosy_sleep` freed."""
        if not self.argosy_weights_gone:
            return
        self.reload_weights()
        for layer in self.argosy_repacked:
            if not hasattr(layer, REPACKED):  # Tied: its weight is another layer's.
                layer.quant_method.process_weights_after_loading(layer)
        self.argosy_drop_duplicates()
        self.argosy_weights_gone = False
        self.argosy_repacked = []
        trim_heap()


def repacked(layer: torch.nn.Module) -> bool:
    """Whether this layer multiplies with a repacked weight."""
    multiply = getattr(layer, REPACKED, torch.nn.functional.linear)
    return multiply is not torch.nn.functional.linear


def drop(tensors: list[torch.Tensor]) -> None:
    """Empty the memory of these tensors, some of which may share it."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    for address, size_bytes in {(memory.data_ptr(), memory.nbytes()) for memory in storages}:
        drop_pages(address, size_bytes)
