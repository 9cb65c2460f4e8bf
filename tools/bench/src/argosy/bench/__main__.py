"""python -m argosy.bench"""

from argosy.bench.app import bench

bench(prog_name="python -m argosy.bench")
