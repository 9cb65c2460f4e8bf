"""An instance's way to the fleet's KV store: the same for every engine."""
