"""Where a local fleet keeps its things, and what is known of one that is up."""

import contextlib
from pathlib import Path

import msgspec
import psutil

HOME = Path(".argosy")


class RunningFleet(msgspec.Struct):
    """A fleet that was brought up: enough to talk to it and to take it down."""

    fleet: str
    model: str
    pid: int
    """Of the node agent, which owns every other process."""
    started: float
    """Its start time: a pid alone may be somebody else's by now."""
    grpc: str
    http: str
    operator: str
    node_agent: str
    nats: str
    model_source: str
    autoscaler: str


class FleetHome:
    """The folder of one fleet: state.json, logs/, journal/, traces/, nats/."""

    def __init__(self, home: Path, fleet: str) -> None:
        self.fleet = fleet
        self.path = (home / fleet).resolve()

    @property
    def state_file(self) -> Path:
        """There while the fleet is up."""
        return self.path / "state.json"

    def save(self, running: RunningFleet) -> None:
        """Note that the fleet is up."""
        self.state_file.write_bytes(msgspec.json.encode(running))

    def last(self) -> RunningFleet | None:
        """The fleet that was brought up and not taken down, alive or not."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self.state_file.read_bytes(), type=RunningFleet)
        return None

    def running(self) -> RunningFleet | None:
        """The fleet, if its node agent is alive."""
        running = self.last()
        alive = running is not None and is_alive(running.pid, running.started)
        return running if alive else None

    def processes(self) -> list[psutil.Process]:
        """Every process of the fleet, also when the agent that started it is gone."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            given = process.environ().items()
            folders = {v for k, v in given if k.startswith("ARGOSY_") and k.endswith("_DATA_DIR")}
            return str(self.path) in folders or str(self.path / "nats") in process.cmdline()
        return False


class NoFleet(Exception):
    """There is no fleet to talk to, or several: says what to do."""


def find_running(
    home: Path, fleet: str | None, *, also_dead: bool = False
) -> tuple[FleetHome, RunningFleet]:
    """The fleet of that name, or the only one that is up. Raises NoFleet.

    also_dead: or whose node agent died without taking it down.
    """
    names = [fleet] if fleet else sorted(p.parent.name for p in home.glob("*/state.json"))
    folders = [FleetHome(home, name) for name in names]
    found = [(f, f.last() if also_dead else f.running()) for f in folders]
    up = [(folder, running) for folder, running in found if running is not None]
    if len(up) == 1:
        return up[0]
    if up:
        raise NoFleet(f"several fleets are up ({', '.join(names)}): say which with --fleet")
    raise NoFleet(
        f"no fleet is up under {home}: start one with `argosy up deploy/local/demo-sim.yaml`"
    )


def is_alive(pid: int, started: float) -> bool:
    """Whether that very process still runs."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False
