"""python -m argosy.router"""

from argosy.mesh.service import run
from argosy.router.settings import RouterSettings
from argosy.router.shell.service import RouterService

if __name__ == "__main__":
    run(RouterSettings, RouterService)
