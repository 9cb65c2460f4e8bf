"""Settings of the prefill service: those of any instance."""

from argosy.engine.settings import InstanceSettings


class PrefillSettings(InstanceSettings):
    """Prefill needs nothing of its own."""
