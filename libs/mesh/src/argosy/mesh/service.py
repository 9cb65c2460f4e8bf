"""The life of a service's process: settings, telemetry, bus, server, readiness, drain.

    class Router:
        def __init__(self, mesh: Mesh[RouterSettings]) -> None:   # register servicers
        async def start(self) -> None:                            # until ready
        async def drain(self) -> None:                            # finish what runs
        async def stop(self) -> None:                             # let go of everything

    if __name__ == "__main__":
        run(RouterSettings, Router)

Order: telemetry, gRPC (NOT_SERVING), bus in the background, start(), SERVING. On
SIGTERM or SIGINT: NOT_SERVING, drain() for at most `drain_timeout_s`, stop(), the
rest backwards. A SIGINT after that skips the wait. When a core fails: NOT_SERVING, stop(),
the rest backwards, without drain(). Exit code 0 is a stop in good order, 1 a failure to
start, 2 wrong settings, 3 a core that failed: the supervisor of the process starts it anew.
"""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import uvloop

from argosy.domain.core import CoreSpec
from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.bus import Bus
from argosy.mesh.driver import Clock, CoreFailed, Driver
from argosy.mesh.journal import JournalWriter
from argosy.mesh.metrics import Metrics
from argosy.mesh.rpc import Channels, GrpcServer
from argosy.mesh.settings import ServiceSettings, load_or_exit
from argosy.mesh.telemetry import start_telemetry

S = TypeVar("S", bound=ServiceSettings)

log = logging.getLogger("argosy")

CORE_FAILED = 3
"""The exit code, see above."""


class Mesh(Generic[S]):
    """What a service is given to stand on."""

    def __init__(self, settings: S, service: str) -> None:
        self.settings = settings
        self.service = service
        self.name = settings.instance_id or f"{service}-{settings.node}"
        self.epoch = settings.epoch
        self.clock = Clock()
        data = settings.data_dir
        self.telemetry = start_telemetry(
            service,
            self.name,
            otlp_endpoint=settings.otlp_endpoint,
            traces_dir=data / "traces" if data else None,
        )
        self.tracer = self.telemetry.tracer
        self.metrics = Metrics(
            service, self.name, otlp_endpoint=settings.otlp_endpoint, listen=settings.metrics_listen
        )
        self.server = GrpcServer(lambda: "" if self.ready else self.waiting_for)
        self.channels = Channels()
        self.bus = Bus(settings.nats_url, settings.fleet, self.name)
        self.ready = False
        self._waiting_for = "start-up"
        self._drivers: list[Driver] = []
        self.core_failed = asyncio.Event()

    @property
    def address(self) -> str:
        """host:port others reach this process at; valid once the server listens."""
        return f"{self.settings.advertise_host}:{self.server.port}"

    @property
    def waiting_for(self) -> str:
        """What it waits for, and control facts that its handlers have not taken, and why."""
        return "; ".join([self._waiting_for, *self.bus.troubles()])

    @waiting_for.setter
    def waiting_for(self, what: str) -> None:
        self._waiting_for = what

    def drive(self, spec: CoreSpec, state: Any, perform: Callable[[Any], None]) -> Driver:
        """A driver for a new core at `state`, journalled when there is a data_dir."""
        data, journal = self.settings.data_dir, None
        if data is not None:
            folder = self.name if spec.name == self.service else f"{self.name}.{spec.name}"
            journal = JournalWriter(data / "journal" / folder, spec, state)
        driver = Driver(spec.build(state), journal, perform, self.clock)
        driver.on_failure = self._on_core_failed
        self._drivers.append(driver)
        return driver

    def _on_core_failed(self, failure: CoreFailed) -> None:
        self.ready = False
        self.waiting_for = f"its end: {failure}"
        self.core_failed.set()

    def check_ready(self, *, retry_after_ms: int = 0) -> None:
        """Raise NOT_READY, saying what is waited for, until start-up is over and once draining."""
        if not self.ready:
            raise ArgosyError(
                Reason.NOT_READY, f"waiting for {self.waiting_for}", retry_after_ms=retry_after_ms
            )

    def wait_for(self, what: str) -> None:
        """Say what start-up waits for now, in the log and in health checks."""
        self.waiting_for = what
        log.info("waiting for %s", what)

    async def wait_for_bus(self) -> None:
        """Return once the bus is connected."""
        if not self.bus.connected.is_set():
            self.wait_for(f"NATS at {self.settings.nats_url}")
            await self.bus.connected.wait()

    async def open(self) -> None:
        """Listen, and begin connecting to the bus."""
        await self.server.start(self.settings.listen)
        log.info("%s listens on %s", self.name, self.address)
        self.bus.start()

    async def set_ready(self, ready: bool) -> None:
        """What health checks say from now on."""
        self.ready = ready
        if ready:
            self.waiting_for = ""
        await self.server.set_serving(ready)

    async def close(self) -> None:
        """Let go of everything, last things first."""
        await self.server.stop(grace_s=1)
        await self.bus.close()
        await self.channels.close()
        for driver in self._drivers:
            driver.close()
        self.metrics.close()
        self.telemetry.close()


class Service(Protocol):
    """What `run` runs."""

    async def start(self) -> None:
        """Return when requests can be served."""
        ...

    async def drain(self) -> None:
        """Take no new work; return when what runs is done."""
        ...

    async def stop(self) -> None:
        """Let go of processes, memory and connections."""
        ...


def run(kind: type[S], make: Callable[[Mesh[S]], Service]) -> None:
    """Run a service until it is told to stop, then exit the process."""
    settings = load_or_exit(kind)
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    faulthandler.enable()
    service = kind.prefix().removeprefix("ARGOSY_").removesuffix("_").lower().replace("_", "-")
    # uvloop: a tenth less CPU per call than asyncio's own loop.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_live(settings, service, make))
    sys.exit(code)


async def _live(settings: S, service: str, make: Callable[[Mesh[S]], Service]) -> int:
    asked = asyncio.Event()
    again = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        # The death of a parent with threads can say SIGTERM once per thread: that is no hurry.
        if asked.is_set() and number == signal.SIGINT:
            again.set()
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    mesh = Mesh(settings, service)
    made: Service | None = None
    try:
        made = make(mesh)
        await mesh.open()
        if not await _first(made.start(), asked, mesh.core_failed):
            log.info("stopped while waiting for %s", mesh.waiting_for)
        elif await _serve(mesh, asked):
            log.info("%s drains, for at most %s s", mesh.name, settings.drain_timeout_s)
            mesh.waiting_for = "shutdown"
            with contextlib.suppress(TimeoutError):
                drained = _first(made.drain(), again, mesh.core_failed)
                await asyncio.wait_for(drained, settings.drain_timeout_s)
        return CORE_FAILED if mesh.core_failed.is_set() else 0
    except ArgosyError as error:
        log.error("cannot start: %s", error.message)
        return 1
    except CoreFailed as failure:
        log.error("ends: %s", failure)
        return CORE_FAILED
    finally:
        if made is not None:
            await made.stop()
        await mesh.close()


async def _serve(mesh: Mesh[S], asked: asyncio.Event) -> bool:
    """Be ready until told to stop (True) or a core fails (False)."""
    # What start-up made stays: collections need not look through it again and again.
    gc.freeze()
    await mesh.set_ready(True)
    log.info("%s is ready", mesh.name)
    told_to_stop = await _first(asked.wait(), mesh.core_failed)
    await mesh.set_ready(False)
    return told_to_stop


async def _first(work: Any, *ends: asyncio.Event) -> bool:
    """Run `work` until done (True) or until one of `ends` is set (False, work cancelled)."""
    task = asyncio.ensure_future(work)
    waiting = [task, *(asyncio.ensure_future(end.wait()) for end in ends)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        await task
        return True
    finally:
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
