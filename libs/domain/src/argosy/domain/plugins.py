"""Parts of Argosy that are found by name: policies and engines, installed by any distribution.

A distribution offers one in its pyproject.toml, in an entry-point group of this kind:

    [project.entry-points."argosy.eviction_policies"]
    learned = "argosy.kvstore.core.eviction.learned:LearnedPolicy"

What is looked up here is code, as `import` looks it up: a name means the same for as long as the
process runs. A core asks when its state is made or read back, and never in a step.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any


class UnknownPluginError(ValueError):
    """Nothing of this name is installed: the message lists what is."""


def plugin_names(group: str) -> list[str]:
    """The names that installed distributions offer in this group, sorted."""
    return sorted(entry_points(group=group).names)


def check_plugin(group: str, name: str) -> str:
    """The name, if something of that name is installed. Raises UnknownPluginError."""
    find_plugin(group, name)
    return name


def find_plugin(group: str, name: str) -> EntryPoint:
    """The entry point of that name, not loaded yet. Raises UnknownPluginError."""
    for found in entry_points(group=group, name=name):
        return found
    known = ", ".join(plugin_names(group)) or "none"
    raise UnknownPluginError(f"no '{name}' among {group}; installed: {known}")


def load_plugin(group: str, name: str) -> Any:
    """What the entry point of that name refers to. Raises UnknownPluginError."""
    return find_plugin(group, name).load()
