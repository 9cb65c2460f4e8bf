"""python -m argosy.prefill"""

from argosy.mesh.service import run
from argosy.prefill.settings import PrefillSettings
from argosy.prefill.shell.service import PrefillService

if __name__ == "__main__":
    run(PrefillSettings, PrefillService)
