"""The operator's hands: fleet files, facts, gRPC."""
