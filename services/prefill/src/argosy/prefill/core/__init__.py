"""Decisions of prefill: what to compute, how long to hold it, when we will be idle."""
