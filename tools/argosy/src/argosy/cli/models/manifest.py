"""The manifest of a prepared model folder: what it holds, so that damage can be found later."""

import json
from pathlib import Path
from typing import Any

from argosy.cli.models.catalogue import Model
from argosy.cli.models.errors import ModelError
from argosy.cli.models.gguf_metadata import write_json
from argosy.cli.models.source import file_sha256

MANIFEST = "argosy-model.json"
"""The manifest's file name; a folder without it is not a finished model."""

_FORCE = "fetch the model again with force, which replaces the folder"


def write_manifest(model: Model, folder: Path) -> None:
    """Record the size in bytes and sha256 of every file in `folder`.

    Raises ModelError, and writes nothing, when a file differs from the catalogue or is missing.
    """
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    files = {p.name: {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in paths}
    _compare_with_catalogue(model, folder, files)
    about = {"name": model.name, "source": model.source, "licence": model.licence}
    write_json(folder / MANIFEST, {**about, "files": files})


def check(model: Model, folder: Path, verify: bool) -> None:
    """Return when `folder` is the finished model; raise ModelError naming the first wrong file.

    Sizes are always compared, which takes no noticeable time; `verify` also reads every file and
    compares its sha256. Files that the manifest does not name are left alone.
    """
    files = _read(folder)
    _compare_with_catalogue(model, folder, files)
    for name, entry in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            got = "no such file" if size is None else f"{size} bytes"
            _differs(path, f"{entry['bytes']} bytes", got)
        if verify and (digest := file_sha256(path)) != entry["sha256"]:
            _differs(path, f"sha256 {entry['sha256']}", f"sha256 {digest}")


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        files = json.loads(path.read_bytes())["files"]
        return {name: {"bytes": e["bytes"], "sha256": e["sha256"]} for name, e in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{folder} exists but is not a finished model",
            expected=f"a readable manifest {MANIFEST} in it",
            got=f"{type(error).__name__}: {error}",
            todo=f"move the folder away, or {_FORCE}",
        ) from error


def _compare_with_catalogue(model: Model, folder: Path, files: dict[str, Any]) -> None:
    for name, pinned in model.sha256.items():
        if name not in files:
            _differs(folder / name, f"sha256 {pinned}", "no such file")
        if files[name]["sha256"] != pinned:
            _differs(folder / name, f"sha256 {pinned}", f"sha256 {files[name]['sha256']}")


def _differs(path: Path, expected: str, got: str) -> None:
    raise ModelError(f"{path} is damaged or outdated", expected=expected, got=got, todo=_FORCE)
