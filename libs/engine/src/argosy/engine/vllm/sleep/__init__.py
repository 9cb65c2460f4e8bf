"""vLLM's sleep and wake."""
