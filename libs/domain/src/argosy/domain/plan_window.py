"""When an operational plan holds, and what it asks for."""

import msgspec


class PlanWindow(msgspec.Struct, frozen=True):
    """One span of time of an operational plan: from_us included, until_us not."""

    plan: str
    from_us: int
    until_us: int
    kind: str
    """at_least, at_most, hold (nothing is taken away) or drain (nobody at work in a rack)."""
    role: str = ""
    """Empty: both together."""
    count: int = 0
    rack: str = ""
