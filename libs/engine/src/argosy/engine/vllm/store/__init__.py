"""vLLM's connector to the KV store."""
