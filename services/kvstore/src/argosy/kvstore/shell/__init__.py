"""gRPC, NIXL, files and facts around the core."""
