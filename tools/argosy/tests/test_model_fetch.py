"""Preparing a model: once, resumably, and with damage named."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from argosy.cli.models.catalogue import Model, Stage
from argosy.cli.models.errors import ModelError
from argosy.cli.models.fetch import fetch

_WEIGHTS = b"the weights"
_DAMAGED = b"The weights"


class Workshop:
    """A two-stage model whose stages say when they ran and can be told to fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failing = ""
        self.weights = _WEIGHTS
        stages = (
            Stage("download", self._download),
            Stage("weights", self._weights, publish=True),
            Stage("tokenizer", self._tokenizer, publish=True),
        )
        pins = {"model.bin": _sha256(_WEIGHTS)}
        self.model = Model("tiny", "tiny==1", "none", stages, pins)

    def fetch(
        self, dest: Path, name: str = "tiny", *, verify: bool = False, force: bool = False
    ) -> Path:
        catalogue = {"tiny": self.model}
        return fetch(name, dest, _silent, verify=verify, force=force, catalogue=catalogue)

    def _download(self, _: Path, out: Path, report: Callable[[float], None]) -> None:
        (out / "archive").write_bytes(self.weights)
        report(0.5)
        self._enter("download")

    def _weights(self, done: Path, out: Path, _: object) -> None:
        (out / "model.bin").write_bytes((done / "download" / "archive").read_bytes())
        self._enter("weights")

    def _tokenizer(self, _: Path, out: Path, __: object) -> None:
        (out / "tokens.json").write_text("{}")
        self._enter("tokenizer")

    def _enter(self, stage: str) -> None:
        self.ran.append(stage)
        if stage == self.failing:
            raise KeyboardInterrupt


def _silent(_: str, __: float) -> None:
    pass


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_first_fetch_leaves_only_the_published_files_and_their_manifest(tmp_path: Path) -> None:
    folder = Workshop().fetch(tmp_path)

    assert folder == tmp_path / "tiny"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.bin", "tokens.json", "argosy-model.json"}
    recorded = json.loads((folder / "argosy-model.json").read_text())["files"]["model.bin"]
    assert recorded == {"sha256": _sha256(_WEIGHTS), "bytes": len(_WEIGHTS)}


def test_second_fetch_runs_no_stage(tmp_path: Path) -> None:
    workshop = Workshop()
    workshop.fetch(tmp_path)
    workshop.fetch(tmp_path, verify=True)

    assert workshop.ran == ["download", "weights", "tokenizer"]


@pytest.mark.parametrize(
    ("failing", "afterwards"),
    [
        ("download", ["download", "weights", "tokenizer"]),
        ("weights", ["weights", "tokenizer"]),
        ("tokenizer", ["tokenizer"]),
    ],
)
def test_interrupted_fetch_goes_on_at_the_unfinished_stage(
    tmp_path: Path, failing: str, afterwards: list[str]
) -> None:
    workshop = Workshop()
    workshop.failing = failing
    with pytest.raises(KeyboardInterrupt):
        workshop.fetch(tmp_path)
    assert not (tmp_path / "tiny").exists()

    workshop.failing = ""
    workshop.ran.clear()
    folder = workshop.fetch(tmp_path)
    assert workshop.ran == afterwards
    assert (folder / "model.bin").read_bytes() == _WEIGHTS


def test_fetch_interrupted_while_gathering_files_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = Workshop()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("argosy.cli.models.manifest.file_sha256", interrupted)
        with pytest.raises(KeyboardInterrupt):
            workshop.fetch(tmp_path)
    assert not (tmp_path / "tiny").exists()

    workshop.fetch(tmp_path)
    workshop.fetch(tmp_path, verify=True)
    assert workshop.ran == ["download", "weights", "tokenizer"]


def test_changed_byte_is_named_with_expected_and_got_when_verifying(tmp_path: Path) -> None:
    workshop = Workshop()
    damaged = workshop.fetch(tmp_path) / "model.bin"
    damaged.write_bytes(_DAMAGED)

    workshop.fetch(tmp_path)
    with pytest.raises(ModelError) as caught:
        workshop.fetch(tmp_path, verify=True)
    assert str(damaged) in caught.value.what
    assert _sha256(_WEIGHTS) in caught.value.expected
    assert _sha256(_DAMAGED) in caught.value.got
    assert "force" in caught.value.todo


@pytest.mark.parametrize(("content", "got"), [(b"cut", "3 bytes"), (None, "no such file")])
def test_wrong_size_is_found_without_verifying(
    tmp_path: Path, content: bytes | None, got: str
) -> None:
    workshop = Workshop()
    damaged = workshop.fetch(tmp_path) / "model.bin"
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)

    with pytest.raises(ModelError) as caught:
        workshop.fetch(tmp_path)
    assert str(damaged) in caught.value.what
    assert (caught.value.expected, caught.value.got) == (f"{len(_WEIGHTS)} bytes", got)


def test_force_replaces_a_damaged_model(tmp_path: Path) -> None:
    workshop = Workshop()
    folder = workshop.fetch(tmp_path)
    (folder / "model.bin").write_bytes(b"cut")

    workshop.fetch(tmp_path, force=True)
    workshop.fetch(tmp_path, verify=True)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_interrupted_force_keeps_the_old_model(tmp_path: Path) -> None:
    workshop = Workshop()
    workshop.fetch(tmp_path)
    workshop.failing = "weights"
    with pytest.raises(KeyboardInterrupt):
        workshop.fetch(tmp_path, force=True)

    workshop.fetch(tmp_path, verify=True)


def test_result_that_differs_from_the_pin_is_not_published(tmp_path: Path) -> None:
    workshop = Workshop()
    workshop.weights = _DAMAGED
    with pytest.raises(ModelError) as caught:
        workshop.fetch(tmp_path)

    assert _sha256(_WEIGHTS) in caught.value.expected
    assert _sha256(_DAMAGED) in caught.value.got
    assert not (tmp_path / "tiny").exists()


def test_model_from_an_older_catalogue_is_called_outdated(tmp_path: Path) -> None:
    workshop = Workshop()
    workshop.fetch(tmp_path)
    workshop.model = dataclasses.replace(workshop.model, sha256={"model.bin": "0" * 64})

    with pytest.raises(ModelError, match="outdated"):
        workshop.fetch(tmp_path)


@pytest.mark.parametrize("manifest", [None, "", "[]", '{"files": {"model.bin": {}}}'])
def test_folder_without_a_readable_manifest_is_not_a_model(
    tmp_path: Path, manifest: str | None
) -> None:
    (tmp_path / "tiny").mkdir()
    if manifest is not None:
        (tmp_path / "tiny" / "argosy-model.json").write_text(manifest)

    with pytest.raises(ModelError, match="not a finished model"):
        Workshop().fetch(tmp_path)


def test_unknown_model_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'huge'") as caught:
        Workshop().fetch(tmp_path / "models", "huge")

    assert "tiny" in caught.value.expected
    assert not (tmp_path / "models").exists()


def test_rope_permutation_is_undone() -> None:
    import numpy as np

    from argosy.cli.models.gguf_llama import undo_rope_permutation

    heads, head_rows, columns = 3, 4, 5
    rows = np.arange(heads * head_rows * columns, dtype=np.float32).reshape(-1, columns)
    # Within each head, llama.cpp stores the rows 0 2 1 3 of a head of four.
    stored = rows.reshape(heads, head_rows, columns)[:, [0, 2, 1, 3]].reshape(rows.shape)

    assert (undo_rope_permutation(stored, heads) == rows).all()
