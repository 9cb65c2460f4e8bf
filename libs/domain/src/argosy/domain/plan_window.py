"""A span of time in which an operational plan is in force, and what it asks for."""

import msgspec


class PlanWindow(msgspec.Struct, frozen=True):
    """One span of time of a plan: [from_us, until_us)."""

    plan: str
    from_us: int
    until_us: int
    kind: str
    """at_least, at_most, hold (no instance is removed) or drain (no instance of the rack works)."""
    role: str = ""
    """Empty: prefill and decode together."""
    count: int = 0
    rack: str = ""
