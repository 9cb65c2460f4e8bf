"""How often NIXL's progress thread looks when nothing happens. See docs/adr/0004.

NIXL's Python API asks for no delay at all, which spins a core per agent, and has no
option for it. The thread sleeps on UCX's event descriptor, so a delay does not slow
down what arrives: it is only the longest sleep.
"""

from typing import Any

_state: dict[str, Any] = {}


def slow_down_polling(poll_us: int) -> None:
    """Make every NIXL agent created in this process from now on poll each `poll_us`."""
    import nixl._api as nixl_api

    _state["poll_us"] = poll_us
    if "bindings" in _state:
        return
    bindings = _state["bindings"] = nixl_api.nixlBind

    class Config(bindings.nixlAgentConfig):  # type: ignore[misc,name-defined]
        """NIXL's own configuration with the delay we want."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, _state["poll_us"] if name == "pthrDelay" else value)

    class Bindings:
        """NIXL's bindings, but for the configuration."""

        nixlAgentConfig = Config  # noqa: N815 - NIXL's name

        def __getattr__(self, name: str) -> Any:
            return getattr(bindings, name)

    nixl_api.nixlBind = Bindings()
