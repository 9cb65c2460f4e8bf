"""The tiered store of KV blocks."""
