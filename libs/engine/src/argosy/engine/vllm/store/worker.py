"""The store connector's half in the worker: copies between KV pages and staging slots.

A slot holds one block: for each worker its part, and in that each layer after the other.
Copies are made within the step, on CUDA too: made beside it they would need pinned
staging memory, and somebody to hold back blocks of requests that are preempted meanwhile.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from argosy.engine.vllm.store.worker_messages import Copy
from argosy.transfer.memory import Memory


@dataclass
class Layer:
    """A layer's pages, and its place in every slot: both [blocks or slots, ...] of one block."""

    pages: torch.Tensor
    staged: torch.Tensor


class StoreWorker:
    """See the module. slot_bytes: of a whole block, of all workers."""

    def __init__(self, path: str, slot_bytes: int, slots: int, rank: int, workers: int) -> None:
        self._memory = Memory(slots * slot_bytes, Path(path))
        whole = torch.frombuffer(self._memory.view, dtype=torch.uint8)[: slots * slot_bytes]
        part = slot_bytes // workers
        self._slots = whole.view(slots, slot_bytes)[:, rank * part : (rank + 1) * part]
        self._layers: list[Layer] = []
        self._loaded: set[str] = set()
        self._saved: list[int] = []

    def register(self, caches: dict[str, torch.Tensor], num_blocks: int) -> None:
        """Learn where the KV pages are. Raises ValueError when a page cannot be told apart."""
        at = 0
        for name, cache in caches.items():
            axis = next((n for n, size in enumerate(cache.shape) if size == num_blocks), None)
            if axis is None:
                raise ValueError(f"layer {name}: no dimension of {list(cache.shape)} is blocks")
            pages = cache.movedim(axis, 0)
            size = pages[0].numel() * pages.element_size()
            staged = self._slots[:, at : at + size].view(pages.dtype)
            self._layers.append(Layer(pages, staged.view(len(staged), *pages.shape[1:])))
            at += size
        if at != self._slots.shape[1]:
            raise ValueError(f"KV blocks have {at} bytes, slots {self._slots.shape[1]}")

    def load(self, request_id: str, copy: Copy) -> None:
        """From slots to pages."""
        slots = torch.tensor(copy.slots)
        for layer in self._layers:
            blocks = torch.tensor(copy.blocks, device=layer.pages.device)
            layer.pages[blocks] = layer.staged[slots].to(layer.pages.device)
        self._loaded.add(request_id)

    def save(self, copy: Copy) -> None:
        """From pages to slots."""
        slots = torch.tensor(copy.slots)
        for layer in self._layers:
            blocks = torch.tensor(copy.blocks, device=layer.pages.device)
            layer.staged[slots] = layer.pages[blocks].cpu()
        self._saved.append(copy.number)

    def done(self) -> tuple[set[str], list[int]]:
        """Requests whose load is over, and saves that are, since the last call."""
        done = self._loaded, self._saved
        self._loaded, self._saved = set(), []
        return done
