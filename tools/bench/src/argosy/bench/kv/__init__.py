"""The KV store."""
