"""Decisions of the autoscaler: how many instances of each role, and who sleeps."""
