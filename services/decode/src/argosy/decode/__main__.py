"""python -m argosy.decode"""

from argosy.decode.settings import DecodeSettings
from argosy.decode.shell.service import DecodeService
from argosy.mesh.service import run

if __name__ == "__main__":
    run(DecodeSettings, DecodeService)
