"""Starts a fleet's processes on one machine."""
