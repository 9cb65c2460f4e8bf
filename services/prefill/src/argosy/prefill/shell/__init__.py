"""Prefill's I/O: gRPC, the engine, facts."""
