"""An instance's client of the fleet's KV stores, the same for every engine."""
