"""Generate the Python stubs of every contract into libs/mesh/src/argosy/wire.

    python proto/generate.py            write them
    python proto/generate.py --check    exit 1 when what is committed is stale

A proto package's name is its path (argosy.router.v1); the Python stubs live one
level down, in argosy.wire.router.v1, because argosy.router is the service.
"""

import argparse
import filecmp
import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
TARGET = ROOT.parent / "libs/mesh/src/argosy/wire"
IMPORT = re.compile(r"^(from|import) argosy\.(?!wire\.)", re.MULTILINE)


def generate(out: Path) -> None:
    """Write stubs for every .proto below this folder to `out`."""
    protos = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["protoc", f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
        outputs = [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main([*arguments, *outputs, *protos]) != 0:
            sys.exit("protoc failed: see above")
        for stub in sorted(Path(scratch, "argosy").rglob("*.py*")):
            if stub.name.endswith("_grpc.py") and "Servicer" not in stub.read_text():
                continue
            relative = stub.relative_to(Path(scratch, "argosy"))
            (out / relative.parent).mkdir(parents=True, exist_ok=True)
            (out / relative).write_text(IMPORT.sub(r"\1 argosy.wire.", stub.read_text()))


def stale(fresh: Path) -> list[str]:
    """Names of stubs that differ between `fresh` and the committed ones."""
    names = {str(p.relative_to(base)) for base in (fresh, TARGET) for p in base.rglob("*.py*")}
    names = {name for name in names if "__pycache__" not in name}
    _, mismatch, missing = filecmp.cmpfiles(fresh, TARGET, sorted(names), shallow=False)
    return sorted(mismatch + missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        generate(TARGET)
        return
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        if names := stale(Path(fresh)):
            sys.exit(f"stale stubs: {', '.join(names)}. Run `make proto` and commit the result.")


if __name__ == "__main__":
    main()
