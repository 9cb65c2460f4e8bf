"""What a module may import. `make lint` checks the layers; this looks at every single module."""

import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]


def test_no_module_imports_itself_by_way_of_others() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    # Imports for types alone count too.
    graph = grimp.build_graph(*project["tool"]["importlinter"]["root_packages"])
    imports = {m: graph.find_modules_directly_imported_by(m) for m in sorted(graph.modules)}
    assert len(imports) > 100
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(
            f"an import cycle: {' imports '.join(reversed(error.args[1]))}"
        ) from None
