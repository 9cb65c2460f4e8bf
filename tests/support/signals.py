"""Signals that have taken effect when the call returns."""

import os
import signal
import time
from pathlib import Path

STOPS_WITHIN_S = 10


def send_signal(pid: int, number: int) -> None:
    """Signal a process. After SIGSTOP no thread of it runs any more when this returns.

    The kernel delivers SIGSTOP when a thread is scheduled next: on a busy machine it may still
    answer a call that was made after os.kill().
    """
    os.kill(pid, number)
    deadline_s = time.monotonic() + STOPS_WITHIN_S
    while number == signal.SIGSTOP and not is_stopped(pid):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"process {pid} did not stop within {STOPS_WITHIN_S} s")
        time.sleep(0.001)


def is_stopped(pid: int) -> bool:
    """Whether every thread of the process is stopped."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(") ")[2][0] == "T" for thread in threads)
