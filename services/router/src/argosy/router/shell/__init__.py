"""The router's hands: gRPC, HTTP, tokenizing, facts."""
