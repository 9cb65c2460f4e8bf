"""Settings of the operator."""

from argosy.mesh.settings import ServiceSettings


class OperatorSettings(ServiceSettings):
    """The operator needs nothing of its own."""
