"""Builds the engine that the settings name. The only place that knows there are several."""

from collections.abc import Callable

from argosy.domain.plugins import load_plugin
from argosy.engine.api import Engine
from argosy.engine.settings import GROUP, EngineSettings


def build_engine(settings: EngineSettings, role: str) -> Engine:
    """The engine for this role (`prefill` or `decode`), not started yet.

    An engine is an entry point of the group `argosy.engines`: a callable that takes settings and
    role. Its module is imported only when it is named here. Raises UnknownPluginError.
    """
    make: Callable[[EngineSettings, str], Engine] = load_plugin(GROUP, settings.engine)
    return make(settings, role)
