"""Prefill's hands: gRPC, the engine, facts."""
