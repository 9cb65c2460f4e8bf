"""The argosy command line."""
