"""What the operator's core wants done."""

from argosy.domain.core import Effect


class DecideInstance(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that an instance shall run, or not, at a node."""

    instance: str
    generation: int
    run: bool
    node: str
    role: str
    memory_bytes: int
    cores: int
    settings: dict[str, str]
    reason: str
    devices: int = 0
