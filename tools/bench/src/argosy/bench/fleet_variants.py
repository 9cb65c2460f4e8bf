"""Fleet files that benchmarks vary: each in a home of its own."""

from pathlib import Path
from typing import Any

import yaml

from argosy.launcher.launch import LaunchPlan, plan


def read_fleet(fleet: Path) -> dict[str, Any]:
    """The file as plain data, its paths absolute."""
    text: dict[str, Any] = yaml.safe_load(fleet.read_text())
    source = text["spec"]["model"].get("source", "sim")
    if source != "sim":
        text["spec"]["model"]["source"] = str((fleet.parent / source).resolve())
    return text


def plan_in(home: Path, text: dict[str, Any]) -> LaunchPlan:
    """A fleet of this file, in this new folder, on any free ports."""
    home.mkdir(parents=True)
    file = home / "fleet.yaml"
    file.write_text(yaml.safe_dump(text))
    return plan(file, home, 0, 0)
