"""Decisions of a node agent: what to start, what fits, when to try again."""
