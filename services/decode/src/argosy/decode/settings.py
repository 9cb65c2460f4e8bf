"""Settings of the decode service: those of any instance."""

from argosy.engine.settings import InstanceSettings


class DecodeSettings(InstanceSettings):
    """Decode needs nothing of its own."""
