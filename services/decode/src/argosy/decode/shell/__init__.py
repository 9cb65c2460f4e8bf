"""Decode's I/O: gRPC, the engine, the pull of KV, text."""
