"""Bring a fleet up: checks first, then one detached node agent that starts the rest."""

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from argosy.client.control import ControlClient
from argosy.domain import plugins
from argosy.domain.errors import ArgosyError, Reason
from argosy.fleet.file import FleetFile, parse_fleet
from argosy.launcher.home import FleetHome, RunningFleet, is_alive
from argosy.launcher.nats_process import nats_command
from argosy.mesh.ports import free_ports, port_is_free
from argosy.wire.operator.v1 import operator_pb2

START_TIMEOUT_S = 60
MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")

Progress = Callable[[operator_pb2.StatusReply, str], None]
"""Told the operator's status and what is being waited for."""


class UpError(Exception):
    """The fleet could not be brought up: what, and what to do."""


@dataclass(frozen=True)
class LaunchPlan:
    """A fleet file, checked, and where things will be."""

    fleet: FleetFile
    text: str
    base_dir: Path
    home: FleetHome
    running: RunningFleet


def plan(path: Path, home: Path, grpc_port: int, http_port: int) -> LaunchPlan:
    """Check everything that can be checked before anything starts. Raises UpError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UpError(f"cannot read fleet file {path}: {error}") from error
    try:
        fleet = parse_fleet(text, str(path))
    except ArgosyError as error:
        raise UpError(error.message) from error
    base_dir = path.resolve().parent
    check_model(fleet.model_source(base_dir), fleet.spec.model.name)
    check_routing_policy(fleet.routing_policy())
    folder = FleetHome(home, fleet.metadata.name)
    if folder.running() is not None:
        raise UpError(
            f"fleet {fleet.metadata.name} is up already: `argosy status` shows it, "
            "`argosy down` takes it down"
        )
    for option, port in (("--grpc-port", grpc_port), ("--http-port", http_port)):
        if port and not port_is_free(port):
            raise UpError(f"port {port} is in use: stop what holds it, or choose another {option}")
    if grpc_port and grpc_port == http_port:
        raise UpError(f"--grpc-port and --http-port are both {grpc_port}: choose two ports")
    drawn = free_ports(6, besides=[grpc_port, http_port])
    ports = [grpc_port or drawn[0], http_port or drawn[1], *drawn[2:]]
    grpc, http, operator, node_agent, nats, autoscaler = (f"127.0.0.1:{port}" for port in ports)
    running = RunningFleet(
        fleet.metadata.name,
        fleet.spec.model.name,
        0,
        0,
        grpc,
        f"http://{http}",
        operator,
        node_agent,
        f"nats://{nats}",
        fleet.model_source(base_dir),
        autoscaler,
    )
    return LaunchPlan(fleet, text, base_dir, folder, running)


def check_model(source: str, name: str) -> None:
    """Raise UpError when the model's files are not there."""
    if source == "sim":
        return
    missing = [file for file in MODEL_FILES if not (Path(source) / file).exists()]
    if not missing and not list(Path(source).glob("*.safetensors")):
        missing = ["*.safetensors"]
    if missing:
        raise UpError(
            f"model {name}: {', '.join(missing)} missing in {source}. Prepare it with "
            f"`argosy model fetch {name}`, or correct spec.model.source in the fleet file"
        )


def check_routing_policy(name: str | None) -> None:
    """Raise UpError when no installed routing policy has this name; None is always right."""
    if name is None:
        return
    try:
        plugins.check("argosy.routing_policies", name, "routing policy")
    except ArgosyError as error:
        raise UpError(f"spec.routing.policy: {error.message}") from error


async def up(planned: LaunchPlan, progress: Progress, timeout_s: float) -> RunningFleet:
    """Start the fleet and return when every instance is ready.

    Raises UpError with the end of the log of the process that failed; what had started is
    stopped again.
    """
    running = start_node_agent(planned)
    remote = ControlClient(running)
    try:
        await asyncio.wait_for(apply(planned, remote), START_TIMEOUT_S)
        await asyncio.wait_for(until_ready(planned, remote, progress), timeout_s)
    except (ArgosyError, TimeoutError, UpError) as error:
        logs = last_lines(planned.home)
        await asyncio.to_thread(down, planned.home, running)
        message = str(error) or f"not ready within {timeout_s:.0f} s"
        raise UpError(f"{message}\n{logs}".rstrip()) from error
    except asyncio.CancelledError:
        down(planned.home, running)
        raise
    finally:
        await remote.close()
    return running


def start_node_agent(planned: LaunchPlan) -> RunningFleet:
    """Start the one process everything else belongs to, and note it."""
    folder = planned.home.path
    keep_previous(folder)
    (folder / "logs").mkdir(parents=True)
    boot = folder / "boot.yaml"
    boot.write_text(yaml.safe_dump(boot_entries(planned), sort_keys=False))
    secret_file = folder / "secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(secrets.token_hex(32))
    running = planned.running
    settings = {
        "fleet": running.fleet,
        "instance_id": "node-agent",
        "listen": running.node_agent,
        "nats_url": running.nats,
        "data_dir": str(folder),
        "boot_file": str(boot),
        "fleet_secret": secret_file.read_text(),
    }
    environment = {f"ARGOSY_NODE_AGENT_{k.upper()}": v for k, v in settings.items()}
    with (folder / "logs/node-agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "argosy.node_agent"],
            env={**os.environ, **environment},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    running.pid = process.pid
    running.started = psutil.Process(process.pid).create_time()
    planned.home.save(running)
    return running


def keep_previous(folder: Path) -> None:
    """Each run starts with nothing; what the last one left stays beside it, as .previous."""
    previous = folder.with_name(f"{folder.name}.previous")
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)


def boot_entries(planned: LaunchPlan) -> dict[str, object]:
    """What the node agent runs besides instances, in order of start."""
    running, spec = planned.running, planned.fleet.spec
    nats_port = int(running.nats.rpartition(":")[2])
    router = {
        "listen": running.grpc,
        "http_listen": running.http.removeprefix("http://"),
        "model": spec.model.name,
        "model_source": running.model_source,
        "block_tokens": str(spec.engine.block_tokens),
    }
    if (policy := planned.fleet.routing_policy()) is not None:
        router["policy"] = policy
    return {
        "nats": {"command": nats_command(nats_port, planned.home.path / "nats")},
        "operator": {"service": "operator", "settings": {"listen": running.operator}},
        "router": {"service": "router", "settings": router},
        "autoscaler": {"service": "autoscaler", "settings": {"listen": running.autoscaler}},
    }


async def apply(planned: LaunchPlan, remote: ControlClient) -> None:
    """Hand the fleet file to the operator, once it serves."""
    running = planned.running
    while True:
        if not is_alive(running.pid, running.started):
            raise UpError("the node agent ended")
        try:
            await remote.apply(planned.text, str(planned.base_dir))
            return
        except ArgosyError as error:
            if error.reason not in (Reason.INSTANCE_LOST, Reason.NOT_READY):
                raise
            await asyncio.sleep(0.1)


UP = frozenset({"active", "draining", "silent", "waking"})
"""An instance that has loaded is up, whatever sleep it is on its way to or from."""


async def until_ready(planned: LaunchPlan, remote: ControlClient, progress: Progress) -> None:
    """Return when every instance, the router and the autoscaler are ready.

    Raises UpError on a refusal.
    """
    wanted = sum(pool.replicas for pool in planned.fleet.pools(planned.base_dir))
    while True:
        status = await remote.operator_status()
        refused = [i.reason for i in status.instances if i.refused]
        if refused:
            raise UpError("\n".join(refused))
        failing = [i for i in status.instances if i.restarts >= 3]
        if failing:
            raise UpError(f"{failing[0].instance_id} ends again and again: {failing[0].reason}")
        ready = sum(i.state in UP for i in status.instances)
        trouble = await remote.router_trouble() or await remote.scaler_trouble()
        progress(status, trouble)
        if ready == wanted and not trouble:
            return
        await asyncio.sleep(0.1)


def down(home: FleetHome, running: RunningFleet, timeout_s: float = 60) -> None:
    """Stop everything of a fleet, in good order if it can be, and see that it is gone."""
    if is_alive(running.pid, running.started):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            agent = psutil.Process(running.pid)
            agent.terminate()
            agent.wait(timeout_s)
    # Without an agent every process was told to end, and may be finishing what it does.
    _, left = psutil.wait_procs(home.processes(), timeout=timeout_s)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    home.state_file.unlink(missing_ok=True)


def last_lines(home: FleetHome, lines: int = 12) -> str:
    """The end of every log that speaks of an error."""
    found = []
    for path in sorted((home.path / "logs").glob("*.log")):
        tail = path.read_text(errors="replace").splitlines()[-lines:]
        if any(word in line for line in tail for word in ("ERROR", "Error", "Traceback", "cannot")):
            found.append("\n".join([f"--- {path.name}", *tail]))
    return "\n".join(found)
