"""Decisions of the router: admission, placement, what to do when an instance dies."""
