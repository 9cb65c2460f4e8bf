"""python -m argosy.autoscaler"""

from argosy.autoscaler.settings import AutoscalerSettings
from argosy.autoscaler.shell.service import AutoscalerService
from argosy.mesh.service import run

if __name__ == "__main__":
    run(AutoscalerSettings, AutoscalerService)
