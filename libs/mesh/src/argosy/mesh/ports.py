"""Ports of this machine."""

import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
BELOW = 16_384
TRIES = 100


def free_port() -> int:
    """A TCP port nobody listens on now; who gets it should bind it soon.

    Below the range the system takes ports of outgoing connections from: from there one would
    soon be somebody else's.
    """
    first = first_ephemeral()
    for _ in range(TRIES):
        port = random.randrange(max(1024, first - BELOW), first)  # noqa: S311 - no secret
        if port_is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
