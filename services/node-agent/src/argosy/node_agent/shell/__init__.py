"""The node agent's hands: processes, facts, gRPC."""
