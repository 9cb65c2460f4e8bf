"""The demo: everything once, on this machine."""

from argosy.cli.demo.run import run_demo

__all__ = ["run_demo"]
