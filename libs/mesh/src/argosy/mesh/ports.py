"""Ports of this machine, each given to one asker only.

A port is free when it is drawn, but bound only later, by a process that must start first. So
nobody else may draw it meanwhile: a process locks each port it draws, as one byte of a file
that all processes of this user share, until it ends, and draws none twice.
"""

import fcntl
import functools
import os
import random
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
BELOW = 16_384
"""Size of the range drawn from: a machine has room for thousands of processes in it."""
TRIES = 100
"""With nine of ten ports taken, the last one fails once in 40,000 draws."""
KEPT = BELOW // 2
"""Ports a process remembers to have drawn; the oldest of more may be drawn again."""

_drawn: dict[int, None] = {}


def free_port() -> int:
    """A TCP port nobody listens on now, and nobody else is given."""
    return free_ports(1)[0]


def free_ports(count: int, *, besides: Sequence[int] = ()) -> list[int]:
    """Distinct TCP ports that nobody listens on now, and nobody else is given.

    Below the range the system takes ports of outgoing connections from: from there one would
    soon be somebody else's. `besides`: ports that must not be among them.
    """
    found: list[int] = []
    while len(found) < count:
        found.append(draw({*besides, *found}))
    return found


def draw(taken: set[int]) -> int:
    """One port that is not `taken`."""
    first = first_ephemeral()
    for _ in range(TRIES):
        port = random.randrange(max(1024, first - BELOW), first)  # noqa: S311 - no secret
        if port not in taken and port not in _drawn and lock(port) and port_is_free(port):
            _drawn[port] = None
            if len(_drawn) > KEPT:
                del _drawn[next(iter(_drawn))]
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lock(port: int) -> bool:
    """Take a port for this process, until it ends. False: another process has it."""
    try:
        fcntl.lockf(lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def lock_file() -> int:
    """The open file of locks. It is never closed: closing it would drop them."""
    path = Path(tempfile.gettempdir()) / f"argosy-ports-{os.getuid()}.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def port_is_free(port: int) -> bool:
    """Whether somebody could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def first_ephemeral() -> int:
    """Where the range of outgoing connections' ports begins."""
    try:
        return int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
