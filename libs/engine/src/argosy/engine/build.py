"""Choose the engine the settings name. The only place that knows there are several."""

from argosy.engine.api import Engine
from argosy.engine.settings import EngineSettings


def build_engine(settings: EngineSettings, role: str) -> Engine:
    """The engine for a prefill or decode service, not started yet.

    vLLM is imported only when it is asked for.
    """
    if settings.engine == "sim":
        from argosy.engine.sim.engine import SimEngine

        return SimEngine(settings)
    from argosy.engine.vllm.engine import VllmEngine

    return VllmEngine(settings, role)
