"""Decisions of the operator: which instances there shall be, and where."""
