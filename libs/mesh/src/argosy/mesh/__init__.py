"""The chassis every Argosy service stands on.

settings · service (start, readiness, drain) · bus · rpc · telemetry · driver and
journal for cores, and the few words and pure functions that all parts share.
"""
