"""Decode's hands: gRPC, the engine, the pull, text."""
