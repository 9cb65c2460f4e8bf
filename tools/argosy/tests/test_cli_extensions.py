"""The commands of the command line, and those that other distributions add to it."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer

from argosy.cli.app import app
from argosy.cli.extensions import add_extensions

MAIN = "from argosy.cli.app import main; main()"
HEAVY = ("asyncio", "grpc", "numpy", "vllm", "matplotlib", "prophet", "pydantic")


def argosy(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with a folder of distributions beside it."""
    paths = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


def write_distribution(folder: Path, entry_points: str) -> None:
    """What pip leaves of a distribution with a module `hello` and these commands."""
    info = folder / "hello-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[argosy.commands]\n{entry_points}")
    (folder / "hello.py").write_text(
        "import typer\n\n"
        "def hello(name: str) -> None:\n    '''Greet.'''\n    print(f'hello {name}')\n\n"
        "greetings = typer.Typer()\n\n"
        "@greetings.command()\ndef one() -> None:\n    print('one')\n\n"
        "@greetings.command()\ndef two() -> None:\n    print('two')\n"
    )


def test_another_distribution_adds_a_command_and_a_group(tmp_path: Path) -> None:
    write_distribution(tmp_path, "hello = hello:hello\ngreetings = hello:greetings\n")
    assert argosy("hello", "world", path=tmp_path).stdout == "hello world\n"
    assert argosy("greetings", "two", path=tmp_path).stdout == "two\n"
    assert "Greet." in argosy("--help", path=tmp_path).stdout


def test_a_command_that_cannot_be_imported_leaves_the_others_alone(tmp_path: Path) -> None:
    write_distribution(tmp_path, "bad = no_such_module:bad\nhello = hello:hello\n")
    ran = argosy("hello", "world", path=tmp_path)
    assert ran.stdout == "hello world\n"
    assert "the command 'bad' of hello (no_such_module:bad) is left out" in ran.stderr


def test_nobody_replaces_a_command_of_argosy(capsys: pytest.CaptureFixture[str]) -> None:
    mine = typer.Typer()
    add_extensions(mine, ["up"], [EntryPoint("up", "os:getcwd", "argosy.commands")])
    assert not mine.registered_commands
    assert "there is a command with this name already" in capsys.readouterr().err


def test_help_imports_nothing_slow() -> None:
    loaded = f"import sys, argosy.cli.app; print([m for m in {HEAVY} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def help_of(command: Any, name: str) -> list[tuple[str, str]]:
    found = [(name, command.help or "")]
    for child, inner in getattr(command, "commands", {}).items():
        found += help_of(inner, f"{name} {child}")
    return found


@pytest.mark.parametrize(("name", "text"), help_of(typer.main.get_command(app), "argosy"))
def test_every_command_has_a_sentence_and_an_example(name: str, text: str) -> None:
    assert f"Example: {name}" in text
    assert text.split("\n")[0].endswith(".")
