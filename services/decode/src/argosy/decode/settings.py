"""Settings of the decode service: those of any instance."""

from argosy.instance.settings import InstanceSettings


class DecodeSettings(InstanceSettings):
    """Decode needs nothing of its own."""
