"""Finds what installed distributions add to Argosy, by entry points.

A distribution declares `name = "module:object"` under `[project.entry-points."GROUP"]` of its
pyproject.toml. Reading the names imports nothing; loading one imports its module only. Which
distributions are installed is read once per process, because that takes tens of milliseconds.

Settings and shells look here. Cores do not: a core is handed what it needs.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from argosy.domain.errors import ArgosyError, Reason


@cache
def _found(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=group))}


def forget() -> None:
    """Read anew what is installed, at the next question."""
    _found.cache_clear()


def names(group: str) -> list[str]:
    """The names declared in a group, sorted."""
    return list(_found(group))


def check(group: str, name: str, what: str) -> None:
    """Raise BAD_REQUEST, with the names there are, if nothing of that name is declared."""
    if name not in _found(group):
        known = ", ".join(names(group)) or "none; install the distribution that declares them"
        raise ArgosyError(Reason.BAD_REQUEST, f"no {what} '{name}'; there are: {known}")


def checked(group: str, name: str, what: str) -> str:
    """The name. Raises ValueError where `check` raises: for the validators of settings."""
    try:
        check(group, name, what)
    except ArgosyError as error:
        raise ValueError(error.message) from None
    return name


def find(group: str, name: str, what: str) -> EntryPoint:
    """The entry point of a name, not loaded. Raises as `check` does."""
    check(group, name, what)
    return _found(group)[name]


def load(group: str, name: str, what: str) -> Any:
    """Import and return the object declared under a name. Raises as `check` does."""
    return find(group, name, what).load()
