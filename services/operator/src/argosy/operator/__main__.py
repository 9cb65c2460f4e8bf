"""python -m argosy.operator"""

from argosy.mesh.service import run
from argosy.operator.settings import OperatorSettings
from argosy.operator.shell.service import OperatorService

if __name__ == "__main__":
    run(OperatorSettings, OperatorService)
