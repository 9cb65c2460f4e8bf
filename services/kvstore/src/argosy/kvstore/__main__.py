"""python -m argosy.kvstore"""

from argosy.kvstore.settings import KvstoreSettings
from argosy.kvstore.shell.service import KvStoreService
from argosy.mesh.service import run

if __name__ == "__main__":
    run(KvstoreSettings, KvStoreService)
