"""Processes' logs, each line with its process's name."""

import time
from pathlib import Path

from argosy.cli import console
from argosy.launcher.home import NoFleet

POLL_S = 0.2


def show_logs(directory: Path, name: str, lines: int, *, follow: bool) -> None:
    """Print the last lines of each log, then what is appended, until interrupted."""
    paths = sorted(directory.glob(f"{name}.log" if name else "*.log"))
    if not paths:
        known = ", ".join(sorted(path.stem for path in directory.glob("*.log")))
        raise NoFleet(f"no log of '{name}'; there are: {known or 'none'}")
    offsets = {}
    for path in paths:
        text = path.read_bytes()
        offsets[path] = len(text)
        show(path, text.decode(errors="replace").splitlines()[-lines:])
    while follow:
        for path in paths:
            with path.open("rb") as file:
                file.seek(offsets[path])
                fresh = file.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]
            offsets[path] += len(whole)
            show(path, whole.decode(errors="replace").splitlines())
        time.sleep(POLL_S)


def show(path: Path, lines: list[str]) -> None:
    """Lines of one process."""
    for line in lines:
        console.out.print(f"[cyan]{path.stem:>12}[/] │", end=" ")
        console.out.print(line, markup=False, soft_wrap=True)
