"""Sleep and wake as people ask for them, checked and given to the core."""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.planning.idle_sleep import serving
from argosy.autoscaler.core.state import AutoscalerState
from argosy.autoscaler.settings import AutoscalerSettings
from argosy.autoscaler.shell.publisher import DECIDED_BY
from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.driver import Driver
from argosy.mesh.service import Mesh
from argosy.wire.autoscaler.v1 import autoscaler_pb2

LEVELS = ("dram", "disk")


class SleepRequests:
    """See the module. Facts say what comes of a request."""

    def __init__(
        self, mesh: Mesh[AutoscalerSettings], state: AutoscalerState, driver: Driver
    ) -> None:
        self._mesh = mesh
        self._state = state
        self._driver = driver

    def sleep(self, request: autoscaler_pb2.SleepRequest) -> list[str]:
        """Decide that instances sleep; returns which. Raises BAD_REQUEST."""
        if request.level and request.level not in LEVELS:
            message = f"no sleep level '{request.level}': there are {' and '.join(LEVELS)}"
            raise ArgosyError(Reason.BAD_REQUEST, message)
        names = self._named(list(request.instance_ids))
        for name in names:
            member = self._state.members[name]
            if member.state == "silent" and request.level not in ("", member.level):
                message = f"{name} sleeps at level {member.level}: wake it first"
                raise ArgosyError(Reason.BAD_REQUEST, message)
        self._driver.feed(
            events.ManualSleepRequested(
                now_us=self._driver.now_us(),
                instances=names,
                level=request.level,
                drain_us=request.drain_ms * 1000 if request.HasField("drain_ms") else -1,
            )
        )
        return names

    def wake(self, request: autoscaler_pb2.WakeRequest) -> list[str]:
        """Decide that instances wake; returns which. Raises BAD_REQUEST."""
        names = self._named(list(request.instance_ids))
        self._driver.feed(events.ManualWakeRequested(now_us=self._driver.now_us(), instances=names))
        return names

    def status(self) -> autoscaler_pb2.SleepStatusReply:
        """What was last decided on each instance, and whether its node refused."""
        self._mesh.check_ready()
        return autoscaler_pb2.SleepStatusReply(
            instances=[
                autoscaler_pb2.InstanceSleep(
                    instance_id=name,
                    told_to_sleep=member.told_to_sleep,
                    decided_by=DECIDED_BY.get(member.decided_by),
                    refused=member.refused,
                )
                for name, member in sorted(serving(self._state).items())
            ]
        )

    def _named(self, names: list[str]) -> list[str]:
        """These, or all there are. Raises BAD_REQUEST for one that there is not."""
        self._mesh.check_ready()
        known = sorted(serving(self._state))
        for name in names:
            if name not in known:
                message = f"no instance '{name}' that could sleep; there are: {', '.join(known)}"
                raise ArgosyError(Reason.BAD_REQUEST, message)
        return names or known
