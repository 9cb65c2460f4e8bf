"""Sleeping and waking."""
