"""The store connector's half in the worker: copies between KV pages and staging slots.

A slot holds one block: for each worker its part, and in that each layer after the other.
On CUDA copies run on a stream of their own, beside the step; on CPU within it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from argosy.engine.vllm.store_words import Copy
from argosy.mesh.memory import Memory


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
        self._stream: Any = None
        self._running: list[tuple[Any, str | int]] = []
        self._done: list[str | int] = []

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
        if any(cache.is_cuda for cache in caches.values()):
            self._stream = torch.cuda.Stream()

    def load(self, request_id: str, copy: Copy) -> None:
        """From slots to pages."""
        blocks, slots = torch.tensor(copy.blocks), torch.tensor(copy.slots)
        for layer in self._copying(request_id):
            layer.pages[blocks.to(layer.pages.device)] = layer.staged[slots].to(layer.pages.device)

    def save(self, copy: Copy) -> None:
        """From pages to slots."""
        blocks, slots = torch.tensor(copy.blocks), torch.tensor(copy.slots)
        for layer in self._copying(copy.number):
            layer.staged[slots] = layer.pages[blocks.to(layer.pages.device)].cpu()

    def _copying(self, what: str | int) -> Iterator[Layer]:
        """Each layer, on the stream for copies, after what the step has done so far."""
        if self._stream is None:
            yield from self._layers
            self._done.append(what)
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield from self._layers
        self._running.append((self._stream.record_event(), what))

    def done(self) -> tuple[set[str], list[int]]:
        """Requests whose load is over, and saves that are, since the last call."""
        self._done += [what for event, what in self._running if event.query()]
        self._running = [(event, what) for event, what in self._running if what not in self._done]
        done, self._done = self._done, []
        loads = {what for what in done if isinstance(what, str)}
        return loads, [what for what in done if isinstance(what, int)]
