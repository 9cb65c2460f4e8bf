"""Preparing a catalogue model on disk: once, resumably, and never visible half done."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from argosy.cli.models.catalogue import CATALOGUE, Model, Stage
from argosy.cli.models.errors import ModelError
from argosy.cli.models.manifest import check, write_manifest

Progress = Callable[[str, float], None]
"""Told a stage's name and how much of that stage is done, from 0.0 to 1.0."""


def fetch(
    name: str,
    dest_dir: Path,
    progress: Progress,
    *,
    verify: bool = False,
    force: bool = False,
    catalogue: Mapping[str, Model] = CATALOGUE,
) -> Path:
    """Return the folder `dest_dir / name`, a complete Hugging Face model, preparing it if needed.

    A folder that is already there is checked against its manifest: file sizes always, sha256 too
    with `verify`. An interrupted fetch goes on at its first unfinished stage. `force` discards
    whatever was there, but only once the replacement is complete. A second fetch into the same
    `dest_dir` waits for the first. Raises ModelError for an unknown name, a damaged file or a
    failed download; OSError when the disk is full or not writable.
    """
    if name not in catalogue:
        known = ", ".join(sorted(catalogue))
        raise ModelError(f"unknown model {name!r}", expected=f"one of: {known}")
    model = catalogue[name]
    final, partial = dest_dir / name, dest_dir / f".partial-{name}"
    dest_dir.mkdir(parents=True, exist_ok=True)
    with _locked(dest_dir):
        if final.exists() and not force:
            check(model, final, verify)
            return final
        if force:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        for stage in model.stages:
            _run(stage, partial, progress)
        _publish(model, partial, final)
    return final


def _run(stage: Stage, partial: Path, progress: Progress) -> None:
    """Run a stage unless its result is there; the result appears whole or not at all."""
    if (partial / stage.name).exists():
        return
    unfinished = partial / f"{stage.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    progress(stage.name, 0.0)
    stage.run(partial, unfinished, lambda fraction: progress(stage.name, fraction))
    _flush(unfinished)
    unfinished.rename(partial / stage.name)
    progress(stage.name, 1.0)


def _publish(model: Model, partial: Path, final: Path) -> None:
    """Gather the published files and put them in place; safe to repeat after an interruption."""
    gathered = partial / "model"
    gathered.mkdir(exist_ok=True)
    for stage in model.stages:
        for path in (partial / stage.name).iterdir() if stage.publish else ():
            path.rename(gathered / path.name)
    write_manifest(model, gathered)
    _flush(gathered)
    if final.exists():
        final.rename(partial / "replaced")
    gathered.rename(final)
    shutil.rmtree(partial)


def _flush(folder: Path) -> None:
    """Get a folder onto the disk, since a rename may otherwise survive a crash that it does not."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases even when this process is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
