"""An engine without a model: real scheduling, KV blocks and timing, invented tokens."""
