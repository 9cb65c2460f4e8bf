"""The autoscaler's hands: facts, history on disk, Prophet, gRPC."""
