"""Real processes: started in groups of their own, with their output in a log file.

A child is told to end when its agent dies (Linux: PR_SET_PDEATHSIG), so nothing is
left behind; a whole group is killed at once, so neither are children's children.
Bounds: a log is moved to `.1` when it is over LOG_BYTES at a start.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

LOG_BYTES = 32 << 20
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Launch:
    """How to start a process. `settings` become environment variables under `prefix`."""

    command: list[str]
    prefix: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    devices: tuple[int, ...] = ()

    def seeing(self, devices: list[int]) -> "Launch":
        """The same, with these accelerators and no others."""
        return replace(self, devices=tuple(devices))

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        """The child's whole environment: ours, less our own settings, plus its."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ARGOSY_")}
        given = {**self.settings, **extra} if self.prefix else {}
        if self.devices:
            kept["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.devices))
        return {**kept, **{f"{self.prefix}{k.upper()}": v for k, v in given.items()}}


def service_launch(service: str, settings: dict[str, str]) -> Launch:
    """Start one of Argosy's services with these settings."""
    module = service.replace("-", "_")
    return Launch([sys.executable, "-m", f"argosy.{module}"], f"ARGOSY_{module.upper()}_", settings)


class Processes:
    """Starts and ends processes; tells `exited(name, pid, code)` when one is gone."""

    def __init__(self, logs_dir: Path | None, exited: Callable[[str, int, int], None]) -> None:
        self._logs_dir = logs_dir
        self._exited = exited
        self._watches: set[asyncio.Task[None]] = set()

    async def start(self, name: str, launch: Launch, extra: dict[str, str]) -> int:
        """Start it; returns its pid. Raises OSError when it cannot be."""
        with contextlib.ExitStack() as stack:
            output: int = asyncio.subprocess.DEVNULL
            if self._logs_dir is not None:
                output = stack.enter_context(open_log(self._logs_dir / f"{name}.log")).fileno()
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                env=launch.environment(extra),
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        watch = asyncio.create_task(self._watch(name, process))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return process.pid

    async def _watch(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        # Whatever the process had started itself goes with it.
        signal_group(process.pid, signal.SIGKILL)
        self._exited(name, process.pid, code)


def open_log(path: Path) -> BinaryIO:
    """The log file of a process, appended to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.rename(path.with_suffix(".log.1"))
    return path.open("ab")


def die_with_parent() -> None:
    """In the child, before it runs: SIGTERM when the agent dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process and all it started; nothing if they are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
