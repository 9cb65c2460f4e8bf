"""Scaling policies: Argosy's and those of peers."""
