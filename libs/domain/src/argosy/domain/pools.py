"""Pools of equal instances: what a fleet file asks for and the operator makes so."""

import msgspec


class Template(msgspec.Struct, frozen=True):
    """The description that all instances of a pool share."""

    role: str
    memory_bytes: int
    cores: int
    settings: dict[str, str]
    devices: int = 0
    """Accelerators that an instance holds while it is awake."""


class Pool(msgspec.Struct, frozen=True):
    """Equal instances of one role, as the fleet file asks for them."""

    template: Template
    replicas: int
