"""python -m argosy.bench"""

from argosy.bench.app import bench

bench()
