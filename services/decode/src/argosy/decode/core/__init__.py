"""Decisions of decode: which tickets are good, and what each leads to."""
