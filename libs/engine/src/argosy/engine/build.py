"""Builds the engine that the settings name. The only place that knows there are several."""

from collections.abc import Callable

from argosy.domain import plugins
from argosy.engine.api import Engine
from argosy.engine.settings import GROUP, WHAT, EngineSettings


def build_engine(settings: EngineSettings, role: str) -> Engine:
    """The engine for this role (`prefill` or `decode`), not started yet.

    An engine is an entry point of the group `argosy.engines`: a callable that takes settings and
    role. Its module is imported only when it is named here. Raises
    BAD_REQUEST, with the names there are, if there is no such engine.
    """
    make: Callable[[EngineSettings, str], Engine] = plugins.load(GROUP, settings.engine, WHAT)
    return make(settings, role)
