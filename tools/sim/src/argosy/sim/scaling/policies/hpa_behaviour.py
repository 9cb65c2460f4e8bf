"""What Kubernetes' HorizontalPodAutoscaler does to a wish before it acts on it.

As kubernetes/pkg/controller/podautoscaler/horizontal.go does (v2 behaviour): stabilisation
windows, then the most that policies let it change within their period.
"""

import math
from collections import deque
from dataclasses import dataclass

TOLERANCE = 0.1
"""--horizontal-pod-autoscaler-tolerance: a smaller change than this share is none."""


@dataclass(frozen=True)
class HpaLimits:
    """One direction of `behavior`. The greater of percent and pods counts, as by default."""

    window_s: float
    period_s: float
    percent: float = 0
    pods: int = 0


class HpaBehaviour:
    """One scaled object's memory of wishes and of what was done."""

    def __init__(self, up: HpaLimits, down: HpaLimits, floor: int, ceiling: int) -> None:
        self._up, self._down = up, down
        self._floor, self._ceiling = floor, ceiling
        self._wishes: deque[tuple[float, int]] = deque()
        self._done: deque[tuple[float, int]] = deque()

    def settle(self, now_s: float, current: int, wanted: float) -> int:
        """The count that is acted on, from minReplicas to maxReplicas."""
        up, down = self._up, self._down
        if not self._wishes:
            self._wishes.append((now_s, current))
        wish = math.ceil(wanted)
        if current and abs(wanted / current - 1) <= TOLERANCE:
            wish = current
        wish = min(self._ceiling, max(self._floor, wish))
        self._wishes.append((now_s, wish))
        kept_s = max(up.window_s, down.window_s)
        while self._wishes[0][0] < now_s - kept_s:
            self._wishes.popleft()
        least = min((n for at_s, n in self._wishes if at_s > now_s - up.window_s), default=wish)
        most = max((n for at_s, n in self._wishes if at_s > now_s - down.window_s), default=wish)
        found = current
        if current < least:
            found = min(least, self._highest(now_s, current))
        elif current > most:
            found = max(most, self._lowest(now_s, current))
        if found != current:
            self._done.append((now_s, found - current))
        return found

    def _changed(self, now_s: float, period_s: float, sign: int) -> int:
        recent = (n for at_s, n in self._done if at_s > now_s - period_s and n * sign > 0)
        return sum(recent)

    def _highest(self, now_s: float, current: int) -> int:
        up = self._up
        start = current - self._changed(now_s, up.period_s, 1)
        by_share = -(-start * (100 + up.percent) // 100) if up.percent else 0
        return max(int(by_share), start + up.pods, current)

    def _lowest(self, now_s: float, current: int) -> int:
        down = self._down
        start = current - self._changed(now_s, down.period_s, -1)
        lowest = [start - down.pods] if down.pods else []
        if down.percent:
            lowest.append(int(start * (1 - down.percent / 100)))
        return min(*lowest, current)
