"""Settings of the prefill service: those of any instance."""

from argosy.instance.settings import InstanceSettings


class PrefillSettings(InstanceSettings):
    """Prefill needs nothing of its own."""
